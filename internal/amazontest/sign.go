package amazontest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]+)$`)

// signed checks the signature, by making it again.
func signed(r *http.Request, body []byte) *Fault {
	said := r.Header.Get("Authorization")
	parts := authorization.FindStringSubmatch(said)
	if parts == nil {
		return &Fault{Status: 403, Code: "MissingAuthenticationTokenException", Message: "Request is missing Authentication Token"}
	}
	if parts[1] != AccessKeyID {
		return &Fault{Status: 403, Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid."}
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.String(), bytes.NewReader(body))
	if err != nil {
		return &Fault{Status: 500, Code: "InternalError", Message: err.Error()}
	}
	for _, name := range strings.Split(parts[4], ";") {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return &Fault{Status: 403, Code: "IncompleteSignature", Message: err.Error()}
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: AccessKeyID, SecretAccessKey: SecretAccessKey}, again, hex.EncodeToString(sum[:]), parts[3], parts[2], at)
	if err != nil || again.Header.Get("Authorization") != said {
		return &Fault{Status: 403, Code: "SignatureDoesNotMatch", Message: "The request signature we calculated does not match the signature you provided."}
	}
	return nil
}
