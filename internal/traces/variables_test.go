package traces

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What cannot be is refused at the start, by name, with the value and what would be right.
func TestWrongValuesAreRefused(t *testing.T) {
	certFile, keyFile := certificate(t)
	nonsense := filepath.Join(t.TempDir(), "nonsense")
	if err := os.WriteFile(nonsense, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, value, want string }{
		{"OTEL_TRACES_EXPORTER", "zipkin", "must be one of otlp, none"},
		{"OTEL_TRACES_EXPORTER", "otlp,console", "must be one of otlp, none"},
		{"OTEL_SDK_DISABLED", "yes", "must be one of true, false"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "must be a URL such as http://localhost:4318"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://a", "must be a URL"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://", "must be a URL"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/?token=b", "must be without a query"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "thrift", "must be one of http/protobuf, http/json, grpc"},
		{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s", "must be a whole number from 1 to 3600000"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "0", "must be a whole number"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "must be one of gzip, none"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem", "must be a file that can be read"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", nonsense, "must be a file of certificates in PEM"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", certFile, "must not be set where the collector is at http://"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certFile, "must both be set, or none"},
		{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", keyFile, "must both be set, or none"},
		{"OTEL_RESOURCE_ATTRIBUTES", "a=b,c", `"c" is no pair`},
		{"OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "is no pair"},
		{"OTEL_TRACES_SAMPLER", "sometimes", "must be one of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio"},
		{"OTEL_TRACES_SAMPLER_ARG", "1.5", "must be a number from 0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG", "NaN", "must be a number from 0 to 1"},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "1e9", "must be a whole number from 1 to 100000"},
		{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1", "must be a whole number"},
		{"OTEL_BSP_SCHEDULE_DELAY", "soon", "must be a whole number"},
		{"OTEL_BSP_EXPORT_TIMEOUT", "99999999", "must be a whole number"},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
			t.Setenv(c.name, c.value)
			got, err := Read()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), c.value) {
				t.Errorf("read as %+v, refused with %v", got, err)
			}
		})
	}
}

// What may be a secret shows in no error, and is known to whoever redacts logs.
func TestSecretsOfTheCollector(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	for _, text := range []string{"geheim", "a=geheim,b", "a b=geheim", "=geheim", "a=geheim%", "a=geheim%0a"} {
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", text)
		if c, err := Read(); err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_TRACES_HEADERS=…: must be NAME=VALUE") {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:geheim@host")
	if c, err := Read(); err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "put what the collector asks for into OTEL_EXPORTER_OTLP_HEADERS") {
		t.Errorf("user info: %+v, %v", c, err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20abc , x-key=def")
	c, err := Read()
	if err != nil || strings.Join(c.Secrets(), "|") != "Bearer abc|def" {
		t.Errorf("%+v, %v", c, err)
	}
}

// Traces go where the variables say, each with what it stands for.
func TestEndpoints(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, "http://c:1/v1/traces"},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp/"}, "https://c/otlp/v1/traces"},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/mine"}, "https://c/mine"},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, "http://t"},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://localhost:4317"},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "http://c:4317"},
	} {
		t.Run(c.want, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			got, err := Read()
			if err != nil || got == nil || got.endpoint != c.want || got.room != 2048+2*512 {
				t.Errorf("%v: %+v, %v", c.env, got, err)
			}
		})
	}
}

const beginVariables, endVariables = "<!-- variables:begin -->", "<!-- variables:end -->"

// docs/traces.md has exactly the table of the code.
func TestPageHasTheVariables(t *testing.T) {
	text, err := os.ReadFile("../../docs/traces.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), beginVariables)
	table, _, closed := strings.Cut(rest, endVariables)
	if !ok || !closed || strings.TrimSpace(table) != strings.TrimSpace(Markdown()) {
		t.Errorf("between %s and %s docs/traces.md must have:\n%s", beginVariables, endVariables, Markdown())
	}
}

// certificate makes one, with its key, in files.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert"), filepath.Join(dir, "key")
}
