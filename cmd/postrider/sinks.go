package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/natssink"
	"github.com/postrider/postrider/sinks/stdout"
	"github.com/postrider/postrider/sinks/webhook"
)

// opener makes the sink of a subscription; it connects to nothing that it would have to wait for.
type opener func(ctx context.Context, s relay.Subscription) (sinks.Sink, error)

// kind is one kind of destination.
type kind struct {
	open  opener
	check func(s relay.Subscription) error // finds what is wrong without connecting
}

// kinds maps a sink URL's scheme to what it leads to.
var kinds = map[string]kind{
	"http":   {openWebhook, checkWebhook},
	"https":  {openWebhook, checkWebhook},
	"nats":   {openNATS, checkNATS},
	"tls":    {openNATS, checkNATS},
	"stdout": {openStdout, checkStdout},
}

// openSink connects to the destination of a subscription.
func openSink(ctx context.Context, s relay.Subscription) (sinks.Sink, error) {
	k, err := kindOf(s.Sink)
	if err != nil {
		return nil, err
	}
	return k.open(ctx, s)
}

// checkSink says what is wrong with a subscription's sink, as far as that can be said without connecting. Its errors show no
// secret.
func checkSink(s relay.Subscription) error {
	k, err := kindOf(s.Sink)
	if err != nil {
		return err
	}
	if err := k.check(s); err != nil {
		return fmt.Errorf("sink %s: %w", redact(s.Sink), err)
	}
	return nil
}

// checkSinkElsewhere is checkSink for a sink that another machine is going to open: it needs no files to be here.
func checkSinkElsewhere(s relay.Subscription) error {
	err := checkSink(s)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil
	}
	return err
}

func kindOf(sink string) (kind, error) {
	known := strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
	scheme, _, ok := strings.Cut(sink, ":")
	if !ok {
		return kind{}, fmt.Errorf("sink %q: must be a URL such as stdout:, nats://host:4222?stream=ORDERS or https://host/hook", clip(sink, 60))
	}
	k, ok := kinds[scheme]
	if !ok {
		return kind{}, fmt.Errorf("sink %s: the scheme %q is unknown; known are %s", redact(sink), scheme, known)
	}
	return k, nil
}

// isNATS reports whether a sink leads to NATS, where replays meet the duplicate window.
func isNATS(sink string) bool {
	scheme, _, _ := strings.Cut(sink, ":")
	return scheme == "nats" || scheme == "tls"
}

func webhookConfig(s relay.Subscription) webhook.Config {
	return webhook.Config{
		URL:     s.Sink,
		Timeout: time.Duration(s.Settings.Timeout),
		Lanes:   s.Settings.Lanes,
		Version: buildVersion(),
	}
}

func openWebhook(_ context.Context, s relay.Subscription) (sinks.Sink, error) {
	return asSink(webhook.New(webhookConfig(s)))
}

func checkWebhook(s relay.Subscription) error {
	sink, err := webhook.New(webhookConfig(s))
	if err != nil {
		return err
	}
	return sink.Close()
}

func openNATS(ctx context.Context, s relay.Subscription) (sinks.Sink, error) {
	config, err := natssink.ParseURL(s.Sink)
	if err != nil {
		return nil, err
	}
	config.Lanes, config.Batch = s.Settings.Lanes, s.Settings.Batch
	config.AckTimeout = cmp.Or(config.AckTimeout, time.Duration(s.Settings.Timeout))
	return asSink(natssink.New(ctx, config))
}

func checkNATS(s relay.Subscription) error {
	_, err := natssink.ParseURL(s.Sink)
	return err
}

func openStdout(context.Context, relay.Subscription) (sinks.Sink, error) {
	return stdout.New(os.Stdout), nil
}

func checkStdout(s relay.Subscription) error {
	u, err := url.Parse(s.Sink)
	if err != nil || u.Opaque+u.Host+u.Path+u.RawQuery != "" {
		return errors.New("stdout takes nothing after the colon")
	}
	return nil
}

// asSink keeps a nil pointer from becoming a sink that is not nil.
func asSink[S sinks.Sink](s S, err error) (sinks.Sink, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
