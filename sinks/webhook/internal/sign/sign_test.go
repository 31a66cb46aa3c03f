package sign

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/secret"
)

// The example that implementations of Standard Webhooks share.
const (
	sampleSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	sampleID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	sampleTime      = "1614265330"
	sampleBody      = `{"test": 2432232314}`
	sampleSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func encodeSecret(prefix string, n int) string {
	raw := make([]byte, n)
	for i := range raw {
		raw[i] = byte(i * 7)
	}
	return prefix + base64.StdEncoding.EncodeToString(raw)
}

func keyPair(t testing.TB) (private string, public ed25519.PublicKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return "whsk_" + base64.StdEncoding.EncodeToString(key), public
}

// signersOf returns the signers of secrets in an environment variable.
func signersOf(t testing.TB, secrets string) Signers {
	t.Helper()
	t.Setenv("POSTRIDER_TEST_SECRET", secrets)
	w, err := secret.Watch(slog.New(slog.DiscardHandler), (*secret.Store)(nil).Own(), "secrets[0]", "env:POSTRIDER_TEST_SECRET", Parse)
	if err != nil {
		t.Fatal(err)
	}
	return Signers{w}
}

func TestSignature(t *testing.T) {
	private, public := keyPair(t)
	seed := private[len("whsk_"):]
	raw, _ := base64.StdEncoding.DecodeString(seed)
	short := "whsk_" + base64.StdEncoding.EncodeToString(raw[:32])
	for name, c := range map[string]struct {
		secrets  string
		versions string
	}{
		"hmac":             {sampleSecret, "v1"},
		"several":          {sampleSecret + "\n" + encodeSecret("whsec_", 64) + "\n", "v1 v1"},
		"comments, blanks": {"# old\r\n " + sampleSecret + "\t\r\n\r\n# new\r\n" + private, "v1 v1a"},
		"on one line":      {private + " " + sampleSecret, "v1a v1"},
		"twice the same":   {sampleSecret + "\n" + sampleSecret, "v1"},
		"a seed":           {short, "v1a"},
	} {
		s := signersOf(t, c.secrets)
		for range 2 { // the second time with a hash that was used before
			header := s.Header(time.Now(), sampleID, sampleTime, []byte(sampleBody))
			var versions []string
			for _, one := range strings.Split(header, " ") {
				version, signature, _ := strings.Cut(one, ",")
				versions = append(versions, version)
				sig, err := base64.StdEncoding.DecodeString(signature)
				if err != nil {
					t.Fatalf("%s: %v in %q", name, err, header)
				}
				if version == "v1a" && !ed25519.Verify(public, []byte(sampleID+"."+sampleTime+"."+sampleBody), sig) {
					t.Errorf("%s: %q does not verify", name, one)
				}
			}
			if got := strings.Join(versions, " "); got != c.versions {
				t.Errorf("%s: signed with %q, want %q", name, got, c.versions)
			}
			if strings.Contains(c.secrets, sampleSecret) && !strings.Contains(" "+header+" ", " "+sampleSignature+" ") {
				t.Errorf("%s: %q lacks %s", name, header, sampleSignature)
			}
		}
	}
}

func TestSecretsThatCannotSign(t *testing.T) {
	private, _ := keyPair(t)
	var many strings.Builder
	for i := range Max + 1 {
		fmt.Fprintln(&many, "whsec_"+base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%032d", i))))
	}
	broken, err := base64.StdEncoding.DecodeString(private[len("whsk_"):])
	if err != nil {
		t.Fatal(err)
	}
	broken[40] ^= 1
	for secrets, want := range map[string]string{
		"# nothing":                        "holds no secret",
		"hush":                             "secret 1: it must begin with whsec_ (HMAC-SHA256) or whsk_ (ed25519)",
		sampleSecret + "\nhush":            "secret 2: it must begin",
		"v1,whsec_hush":                    "secret 1: it must begin",
		"whsec_hush!":                      "base64",
		"whsec_" + strings.Repeat("A", 43): "with padding",
		"whsec_" + strings.Repeat("-", 40): "standard alphabet",
		encodeSecret("whsec_", 23):         "it has 23 bytes: whsec_ takes from 24 to 64",
		encodeSecret("whsec_", 65):         "it has 65 bytes",
		encodeSecret("whsk_", 33):          "it has 33 bytes: whsk_ takes a key of 64, or its seed of 32",
		"whsk_hush!":                       "base64",
		"whsk_" + base64.StdEncoding.EncodeToString(broken): "do not belong together",
		encodeSecret("whpk_", 32):                           "public key, for receivers",
		many.String():                                       "holds 17 secrets: at most 16",
	} {
		_, err := Parse(secret.NewText(secrets))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: error %v, want %q", secrets, err, want)
			continue
		}
		for word := range strings.FieldsSeq(secrets) {
			_, body, _ := strings.Cut(word, "_")
			if len(body) > 3 && strings.Contains(err.Error(), body) || strings.Contains(err.Error(), "hush") {
				t.Errorf("the error %v shows the secret", err)
			}
		}
	}
}
