package traces

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// variable is one of OpenTelemetry's that means something here.
type variable struct {
	name string
	// ofTraces says that there is one for traces alone, with _TRACES_ in its name, which wins.
	ofTraces bool
	initial  string
	help     string
	secret   bool                    // its value shows nowhere
	check    func(text string) error // says what would be right
}

const (
	disabled  = "OTEL_SDK_DISABLED"
	exporter  = "OTEL_TRACES_EXPORTER"
	endpoint  = "OTEL_EXPORTER_OTLP_ENDPOINT"
	protocol  = "OTEL_EXPORTER_OTLP_PROTOCOL"
	headers   = "OTEL_EXPORTER_OTLP_HEADERS"
	cert      = "OTEL_EXPORTER_OTLP_CERTIFICATE"
	certOwn   = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
	keyOwn    = "OTEL_EXPORTER_OTLP_CLIENT_KEY"
	sampler   = "OTEL_TRACES_SAMPLER"
	argument  = "OTEL_TRACES_SAMPLER_ARG"
	queueSize = "OTEL_BSP_MAX_QUEUE_SIZE"
	batchSize = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"

	grpc = "grpc"

	defaultEndpoint = "http://localhost:4318"
	defaultGRPC     = "http://localhost:4317"
	tracesPath      = "v1/traces"
)

// variables are all of them; docs/traces.md has them as a table.
var variables = []variable{
	{name: exporter, help: "otlp turns traces on, none turns them off. Default: otlp if an endpoint is set, else none.", check: oneOf("otlp", "none")},
	{name: disabled, initial: "false", help: "true turns traces off, whatever else is set.", check: func(text string) error { return oneOf("true", "false")(strings.ToLower(text)) }},
	{name: endpoint, ofTraces: true, initial: defaultEndpoint, help: "The collector. /v1/traces is added to it; the one for traces is taken as it is. gRPC knows no path, and its default is " + defaultGRPC + ".", check: checkEndpoint},
	{name: protocol, ofTraces: true, initial: "http/protobuf", help: "http/protobuf, http/json or grpc. Collectors listen on the port 4318 for the first two and on 4317 for gRPC, as a rule.", check: oneOf("http/protobuf", "http/json", grpc)},
	{name: headers, ofTraces: true, help: "Headers of requests to it, such as Authorization=Bearer%20TOKEN, separated by commas; values are percent-encoded.", secret: true, check: checkHeaders},
	{name: "OTEL_EXPORTER_OTLP_TIMEOUT", ofTraces: true, initial: "10000", help: "How long a request may take, in milliseconds.", check: number(1, maxMillis)},
	{name: "OTEL_EXPORTER_OTLP_COMPRESSION", ofTraces: true, initial: "none", help: "gzip or none.", check: oneOf("gzip", "none")},
	{name: cert, ofTraces: true, help: "File of the certificates that sign the collector's; default: those of the system.", check: checkCertificates},
	{name: certOwn, ofTraces: true, help: "File of the certificate that this process shows it, with the key in the next one.", check: checkFile},
	{name: keyOwn, ofTraces: true, help: "File of that certificate's key.", check: checkFile},
	{name: "OTEL_SERVICE_NAME", initial: "postrider", help: "The resource's service.name."},
	{name: "OTEL_RESOURCE_ATTRIBUTES", help: "More of the resource: name=value, separated by commas; values are percent-encoded.", check: checkPairs},
	{name: sampler, initial: "parentbased_always_on", help: "Which attempts have a span: " + strings.Join(samplerNames(), ", ") + ".", check: oneOf(samplerNames()...)},
	{name: argument, initial: "1", help: "The share of those by ratio, from 0 to 1.", check: checkRatio},
	{name: "OTEL_BSP_SCHEDULE_DELAY", initial: "5000", help: "How long a span waits for others to be sent with, in milliseconds.", check: number(1, maxMillis)},
	{name: "OTEL_BSP_EXPORT_TIMEOUT", initial: "30000", help: "How long spans may take to be sent, with all attempts, in milliseconds.", check: number(1, maxMillis)},
	{name: queueSize, initial: "2048", help: "Spans that wait to be sent; what comes while there are so many is dropped.", check: number(1, maxQueue)},
	{name: batchSize, initial: "512", help: "Most spans in a request.", check: number(1, maxQueue)},
}

const (
	maxMillis = 3_600_000 // an hour
	maxQueue  = 100_000   // spans of about 2 KiB
)

// names are those of the environment, the one that wins first.
func (v variable) names() []string {
	if v.ofTraces {
		return []string{strings.Replace(v.name, "OTLP_", "OTLP_TRACES_", 1), v.name}
	}
	return []string{v.name}
}

// lookup returns the value that holds, with the name of the variable that has it. What is set to nothing is not set.
func lookup(name string) (text, of string) {
	i := slices.IndexFunc(variables, func(v variable) bool { return v.name == name })
	for _, of := range variables[i].names() {
		if text := strings.TrimSpace(os.Getenv(of)); text != "" {
			return text, of
		}
	}
	return "", ""
}

// check says what is wrong with what is set.
func check() error {
	var problems []error
	for _, v := range variables {
		for _, name := range v.names() {
			text := strings.TrimSpace(os.Getenv(name))
			if text == "" || v.check == nil {
				continue
			}
			if err := v.check(text); err != nil {
				if v.secret || strings.Contains(text, "@") {
					text = "…"
				}
				problems = append(problems, fmt.Errorf("%s=%s: %w", name, text, err))
			}
		}
	}
	return errors.Join(problems...)
}

func oneOf(words ...string) func(string) error {
	return func(text string) error {
		if !slices.Contains(words, text) {
			return errors.New("must be one of " + strings.Join(words, ", "))
		}
		return nil
	}
}

func number(least, most int) func(string) error {
	return func(text string) error {
		if n, err := strconv.Atoi(text); err != nil || n < least || n > most {
			return fmt.Errorf("must be a whole number from %d to %d", least, most)
		}
		return nil
	}
}

func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("must be a URL such as " + defaultEndpoint)
	case u.User != nil:
		return errors.New("must be without user info: put what the collector asks for into " + headers)
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("must be without a query and a fragment")
	}
	return nil
}

func checkHeaders(text string) error {
	_, err := readHeaders(text)
	return err
}

// readHeaders returns the values, decoded.
func readHeaders(text string) (values []string, err error) {
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !ok || err != nil || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }) ||
			strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, errors.New("must be NAME=VALUE, separated by commas, with values that are percent-encoded")
		}
		values = append(values, value)
	}
	return values, nil
}

func checkPairs(text string) error {
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(value); !ok || err != nil || strings.TrimSpace(name) == "" {
			return fmt.Errorf("%.60q is no pair: must be name=value, separated by commas, with values that are percent-encoded", pair)
		}
	}
	return nil
}

func checkRatio(text string) error {
	if r, err := strconv.ParseFloat(text, 64); err != nil || !(r >= 0 && r <= 1) {
		return errors.New("must be a number from 0 to 1, such as 0.01")
	}
	return nil
}

func checkFile(path string) error {
	if _, err := os.ReadFile(path); err != nil {
		return fmt.Errorf("must be a file that can be read: %w", err)
	}
	return nil
}

func checkCertificates(path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("must be a file that can be read: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return errors.New("must be a file of certificates in PEM")
	}
	return nil
}

// checkTLS looks at what belongs together.
func checkTLS(to string) error {
	for _, traces := range []int{0, 1} {
		name := func(of string) string { return variable{name: of, ofTraces: true}.names()[traces] }
		certFile, keyFile := strings.TrimSpace(os.Getenv(name(certOwn))), strings.TrimSpace(os.Getenv(name(keyOwn)))
		if (certFile == "") != (keyFile == "") {
			return fmt.Errorf("%s=%s and %s=%s: must both be set, or none", name(certOwn), certFile, name(keyOwn), keyFile)
		}
		if certFile == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			return fmt.Errorf("%s=%s and %s=%s: must be a certificate in PEM and its key: %w", name(certOwn), certFile, name(keyOwn), keyFile, err)
		}
	}
	for _, name := range []string{cert, certOwn} {
		if text, of := lookup(name); text != "" && !strings.HasPrefix(to, "https:") {
			return fmt.Errorf("%s=%s: must not be set where the collector is at %s: https is what has certificates", of, text, to)
		}
	}
	return nil
}

// Markdown returns the table of docs/traces.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| Variable | Default | Meaning |\n|---|---|---|\n")
	for _, v := range variables {
		name, initial := "`"+v.name+"`", v.initial
		if v.ofTraces {
			name += ", `" + v.names()[0] + "`"
		}
		if initial != "" {
			initial = "`" + initial + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, initial, v.help)
	}
	return b.String()
}
