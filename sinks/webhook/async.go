package webhook

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/postrider/postrider/sinks"
)

// DefaultAsyncLease is the default of Options.AsyncLease.
const DefaultAsyncLease = 10 * time.Minute

const (
	minLease = time.Second
	maxLease = 7 * 24 * time.Hour
)

func (o *Options) checkAsync() error {
	lease := time.Duration(o.AsyncLease)
	switch {
	case o.KeepResult && o.batches():
		return fmt.Errorf("keep_result is true and format is %s: a result is one message's, so that the format must be raw, binary or structured", o.Format)
	case !o.Async && lease != 0:
		return errors.New("async_lease has no meaning without async")
	case !o.Async:
		return nil
	case o.batches():
		return fmt.Errorf("async is true and format is %s: a callback is about one message, so that the format must be raw, binary or structured", o.Format)
	case lease < minLease || lease > maxLease:
		return fmt.Errorf("async_lease %v: must be from 1s to 168h", lease)
	}
	return nil
}

// newToken returns a fencing token: 63 random bits, so that nobody who may settle attempts can guess another one's. It is positive, for
// the SQL functions take a bigint.
func newToken() int64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails
		if token := int64(binary.BigEndian.Uint64(b[:]) >> 1); token != 0 {
			return token
		}
	}
}

// leasable is what a callback has to name. Token is that of the attempt.
type leasable struct {
	subscription string
	id, token    int64
}

// leasable returns what the request for a message needs where it may be answered with 202, else nil.
func (s *Sink) leasable(d *sinks.Delivery) *leasable {
	if !s.options.Async {
		return nil
	}
	return &leasable{subscription: d.Subscription, id: d.ID}
}

// stamp sets the headers that name the attempt.
func (d *leasable) stamp(f *fields, callbackURL func(subscription string, id, token int64) string) {
	d.token = newToken()
	f.set("Postrider-Id", strconv.FormatInt(d.id, 10))
	f.set("Postrider-Token", strconv.FormatInt(d.token, 10))
	if callbackURL != nil {
		f.set("Postrider-Callback", callbackURL(d.subscription, d.id, d.token))
	}
}

// leased is the outcome of an accepting answer to a request with one message: nil unless a callback is going to settle it.
func (s *Sink) leased(r *request, res *http.Response) error {
	if r.leasable == nil || res.StatusCode != http.StatusAccepted {
		return nil
	}
	return sinks.Leased(lease(res.Header.Get("Postrider-Lease"), time.Duration(s.options.AsyncLease)), r.leasable.token)
}

// lease reads the header of that name, whole seconds. What cannot be a lease is ignored: the receiver leases the message all the
// same, and would again if that were a failure.
func lease(header string, otherwise time.Duration) time.Duration {
	n, err := strconv.ParseUint(header, 10, 31)
	if d := time.Duration(n) * time.Second; err == nil && d >= minLease && d <= maxLease {
		return d
	}
	return otherwise
}
