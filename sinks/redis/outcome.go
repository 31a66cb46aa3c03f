package redissink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// The first words of answers: see the manual, and the sources (server.c, acl.c, cluster.c).
var (
	setup = []string{"WRONGTYPE", "NOPERM", "NOAUTH", "WRONGPASS", "MOVED", "ASK"}
	away  = []string{"OOM", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY"}
)

// refusesLogin reports whether a server did not let us in, once it was connected.
func refusesLogin(err error) bool {
	answer, is := errors.AsType[*rueidis.RedisError](err)
	if !is {
		return false
	}
	text := answer.Error()
	return slices.ContainsFunc([]string{"NOAUTH", "WRONGPASS", "invalid username-password pair", "DB index is out of range"},
		func(words string) bool { return strings.Contains(text, words) })
}

// outcomeOf makes an outcome of an error.
func outcomeOf(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if hidden, ok := errors.AsType[*secret.HiddenError](err); ok {
		return sinks.Misconfigured(hidden)
	}
	_, answered := rueidis.IsRedisErr(err)
	word, _, _ := strings.Cut(text, " ")
	switch {
	case errors.Is(err, errTrust), sinks.IsTLSRefusal(err), strings.Contains(text, "refused by the guard"):
		return sinks.Misconfigured(errors.New(text + remedy("TLS", text)))
	case slices.Contains(setup, word), refusesLogin(err):
		return sinks.Misconfigured(errors.New(text + remedy(word, text)))
	case slices.Contains(away, word), strings.Contains(text, "max number of clients"):
		return sinks.Unavailable(errors.New(text), 0)
	case answered:
		return sinks.Retryable(errors.New(text), 0)
	case errors.Is(err, context.DeadlineExceeded):
		return sinks.Unavailable(fmt.Errorf("no answer in time: %w", err), 0)
	}
	return sinks.Unavailable(err, 0)
}

// remedy says what would help.
func remedy(word, text string) string {
	switch {
	case word == "WRONGTYPE":
		return ": the key of the stream holds something else"
	case word == "MOVED", word == "ASK":
		return ": it is a cluster: name two of its servers in the sink's URL, and the others are found"
	case word == "NOPERM":
		return ": the user needs +xadd and the streams' keys"
	case strings.Contains(text, "refused by the guard"):
		return ": options.guard.allow can permit it"
	}
	return ""
}
