// Package hop signs what relays ask of each other, so that it is worth nothing to anybody else.
//
// A header has the target's incarnation, the time, and a signature of these, of what is asked and of the body, with a key that relays of one
// database alone can read. So what somebody has seen of one call is worth nothing to another relay, nor to this one when it is started again.
package hop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
)

const oldest = 5 * time.Minute // clocks of two machines may differ

func signature(key []byte, verb, target string, at int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "postrider-relay\n%s\n%s\n%d\n", verb, target, at)
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// Header is what goes with a call to a relay, as access.RelayHeader.
func Header(key []byte, verb, target string, body []byte) string {
	at := time.Now().UnixMilli()
	return fmt.Sprintf("%s %d %s", target, at, signature(key, verb, target, at, body))
}

// Verify says whether a call that claims it comes from a relay that knows the key, and is meant for this one.
func Verify(key []byte, me, header, verb string, body []byte) error {
	refused := problem.New(http.StatusUnauthorized, "relay_unauthorized", "%s: the signature is not that of a relay of this database for this one", access.RelayHeader)
	parts := strings.Split(header, " ")
	if len(key) == 0 || len(parts) != 3 || parts[0] != me {
		return refused
	}
	at, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || time.Since(time.UnixMilli(at)).Abs() > oldest {
		return refused
	}
	if !hmac.Equal([]byte(parts[2]), []byte(signature(key, verb, me, at, body))) {
		return refused
	}
	return nil
}
