package sign

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/secret"
)

// Text that cannot be a secret must neither sign nor show.
func FuzzSecrets(f *testing.F) {
	for _, text := range []string{sampleSecret, "# x\n" + sampleSecret, "whsk_AAAA", "whpk_", "whsec_\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Parse(secret.NewText(text))
		if (err == nil) != (len(all) > 0) {
			t.Fatalf("%d signers and the error %v", len(all), err)
		}
		for word := range strings.FieldsSeq(text) {
			if err != nil && strings.HasPrefix(word, "wh") && len(word) > 12 && strings.Contains(err.Error(), word) {
				t.Fatalf("the error %q shows %q", err, word)
			}
		}
	})
}
