package sign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/secret"
)

// How secrets begin (https://www.standardwebhooks.com, "Signature scheme").
const (
	prefixHMAC   = "whsec_"
	prefixKey    = "whsk_"
	prefixPublic = "whpk_"
)

const (
	minHMACSecret = 24 // bytes
	maxHMACSecret = 64
	// Max is the number of signatures in a header: it keeps the header well below the 8 KiB that common servers take for all headers together.
	Max = 16
)

// signedContent is what signatures cover: "id.timestamp." and the body.
type signedContent struct {
	prefix, body []byte
	whole        []byte // prefix and body in one piece, for ed25519
	out          []byte // the header's value
}

var signedContents = sync.Pool{New: func() any { return new(signedContent) }}

func (c *signedContent) all() []byte {
	if c.whole == nil {
		c.whole = append(append(make([]byte, 0, len(c.prefix)+len(c.body)), c.prefix...), c.body...)
	}
	return c.whole
}

// Signer appends one signature with its version: v1,… or v1a,…. It is a function so that nothing can print its key.
type Signer func(dst []byte, c *signedContent) []byte

// Signers are the secrets of one reference.
type Signers []*secret.Watched[[]Signer]

// Header returns the header's value: a signature by each secret, separated by spaces. It is empty without secrets.
func (s Signers) Header(now time.Time, id, timestamp string, body []byte) string {
	if len(s) == 0 {
		return ""
	}
	c := signedContents.Get().(*signedContent)
	c.prefix = append(append(append(append(c.prefix[:0], id...), '.'), timestamp...), '.')
	c.body = body
	out := c.out[:0]
	for _, w := range s {
		for _, sign := range w.Get(now) {
			if len(out) > 0 {
				out = append(out, ' ')
			}
			out = sign(out, c)
		}
	}
	*c = signedContent{prefix: c.prefix, out: out}
	signedContents.Put(c)
	return string(out)
}

// Parse reads secrets separated by white space or line ends; lines that begin with # are comments. Errors tell
// which one is wrong and show none.
func Parse(text secret.Text) ([]Signer, error) {
	var all []Signer
	seen := map[string]bool{}
	for line := range strings.Lines(text.Reveal()) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, word := range strings.Fields(line) {
			if seen[word] {
				continue
			}
			seen[word] = true
			s, err := parseSigner(word)
			if err != nil {
				return nil, fmt.Errorf("secret %d: %w", len(seen), err)
			}
			all = append(all, s)
		}
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("holds no secret")
	case len(all) > Max:
		return nil, fmt.Errorf("holds %d secrets: at most %d can sign", len(all), Max)
	}
	return all, nil
}

func parseSigner(word string) (Signer, error) {
	if encoded, ok := strings.CutPrefix(word, prefixHMAC); ok {
		return parseHMAC(encoded)
	}
	if encoded, ok := strings.CutPrefix(word, prefixKey); ok {
		return parseKey(encoded)
	}
	if strings.HasPrefix(word, prefixPublic) {
		return nil, errors.New("it is a public key, for receivers: signing needs the private one, which begins with whsk_")
	}
	return nil, errors.New("it must begin with whsec_ (HMAC-SHA256) or whsk_ (ed25519)")
}

// Receivers decode with padding and strictly: what they cannot read must not be used for signing.
var errBase64 = errors.New("what follows the prefix must be base64 in the standard alphabet, with padding")

func parseHMAC(encoded string) (Signer, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errBase64
	}
	if len(key) < minHMACSecret || len(key) > maxHMACSecret {
		return nil, fmt.Errorf("it has %d bytes: whsec_ takes from %d to %d", len(key), minHMACSecret, maxHMACSecret)
	}
	macs := sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}
	return func(dst []byte, c *signedContent) []byte {
		mac := macs.Get().(hash.Hash)
		defer macs.Put(mac)
		mac.Reset()
		mac.Write(c.prefix)
		mac.Write(c.body)
		var sum [sha256.Size]byte
		return base64.StdEncoding.AppendEncode(append(dst, "v1,"...), mac.Sum(sum[:0]))
	}, nil
}

// parseKey takes a private key of 64 bytes, seed and public key, or the 32 bytes of the seed alone: both are in use.
func parseKey(encoded string) (Signer, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errBase64
	}
	if len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("it has %d bytes: whsk_ takes a key of %d, or its seed of %d", len(raw), ed25519.PrivateKeySize, ed25519.SeedSize)
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && !bytes.Equal(raw, key) {
		return nil, errors.New("its two halves do not belong together: the second must be the public key of the first")
	}
	return func(dst []byte, c *signedContent) []byte {
		return base64.StdEncoding.AppendEncode(append(dst, "v1a,"...), ed25519.Sign(key, c.all()))
	}, nil
}
