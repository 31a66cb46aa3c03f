package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// set parses one setting into s.
func set(s *subscription.Settings, name, text string) error {
	switch name {
	case "ordering":
		s.Ordering = subscription.Ordering(text)
	case "on_dead":
		s.OnDead = subscription.OnDead(text)
	case "max_attempts":
		return setCount(&s.MaxAttempts, text)
	case "lanes":
		return setCount(&s.Lanes, text)
	case "batch":
		return setCount(&s.Batch, text)
	case "max_scheduled":
		return setCount(&s.MaxScheduled, text)
	case "max_parked":
		return setCount(&s.MaxParked, text)
	case "timeout":
		return (*duration)(&s.Timeout).Decode(text)
	case "backoff_initial":
		return (*duration)(&s.BackoffInitial).Decode(text)
	case "backoff_max":
		return (*duration)(&s.BackoffMax).Decode(text)
	case "backoff_schedule":
		return (*durationList)(&s.BackoffSchedule).Decode(text)
	case "linger":
		return (*duration)(&s.Linger).Decode(text)
	case "options":
		return (*object)(&s.Options).Decode(text)
	}
	return nil
}

func setCount(to *int, text string) error {
	var c count
	err := c.Decode(text)
	*to = int(c)
	return err
}

// checkSetting parses one setting and checks it as far as it can be checked alone.
func checkSetting(s *subscription.Settings, name, text string) error {
	var alone subscription.Settings
	if err := set(&alone, name, text); err != nil {
		return fmt.Errorf("%s %q: %w", name, text, err)
	}
	if name == "backoff_max" {
		alone.BackoffInitial = 1 // what it has to exceed is checked when all settings are known
	}
	if err := alone.Validate(); err != nil {
		return err
	}
	return set(s, name, text)
}

// fromEnvironment returns the one subscription that the environment describes, or nil.
func (s *Settings) fromEnvironment() (*subscription.Spec, error) {
	if s.Sink == "" && len(s.Topics) == 0 {
		return nil, nil
	}
	if s.Sink == "" {
		return nil, errors.New("POSTRIDER_TOPICS is set, but POSTRIDER_SINK is not: both make a subscription")
	}
	if len(s.Topics) == 0 {
		return nil, errors.New("POSTRIDER_SINK is set, but POSTRIDER_TOPICS is not: set it to patterns such as orders.>,payments.* (or > for all)")
	}
	_, named := os.LookupEnv(prefix + "_SUBSCRIPTION")
	sub := subscription.Spec{Start: s.Start, Unnamed: !named, Subscription: subscription.Subscription{
		Name: s.Subscription, Topics: s.Topics, Sink: s.Sink, Settings: subscription.Settings{
			Ordering:       subscription.Ordering(s.Ordering),
			OnDead:         subscription.OnDead(s.OnDead),
			MaxAttempts:    int(s.MaxAttempts),
			Lanes:          int(s.Lanes),
			Batch:          int(s.Batch),
			Timeout:        subscription.Duration(s.Timeout),
			BackoffInitial: subscription.Duration(s.BackoffInitial),
			BackoffMax:     subscription.Duration(s.BackoffMax),

			BackoffSchedule: s.BackoffSchedule,
			Linger:          subscription.Duration(s.Linger),
			Options:         json.RawMessage(s.Options),
		}}}
	filled := sub.Settings
	return &sub, errors.Join(
		inVariable("SUBSCRIPTION", subscription.CheckName(sub.Name)),
		inVariable("TOPICS", subscription.CheckTopics(sub.Topics)),
		sinkInVariable(s.checkSink(sub.Subscription)),
		inVariable("START", subscription.CheckStart(sub.Start)),
		settingInVariable(filled.Validate()))
}

func inVariable(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s_%s: %w", prefix, name, err)
}

// sinkInVariable names the variable that is at fault.
func sinkInVariable(err error) error {
	if e, ok := errors.AsType[sinks.OptionsError](err); ok {
		return fmt.Errorf("%s_OPTIONS: %s", prefix, strings.TrimPrefix(e.Error(), "options: "))
	}
	return inVariable("SINK", err)
}

// settingInVariable names the variable behind a setting: the error's first word is the setting's name.
func settingInVariable(err error) error {
	if err == nil {
		return nil
	}
	name, _, _ := strings.Cut(err.Error(), " ")
	return inVariable(strings.ToUpper(name), err)
}

// Specs returns the subscriptions of the environment and of the file.
func (s *Settings) Specs() ([]subscription.Spec, error) {
	var specs []subscription.Spec
	if s.Config != "" {
		var err error
		if specs, err = ReadFile(s.Config, s.checkSink); err != nil {
			return nil, fmt.Errorf("POSTRIDER_CONFIG: %w", err)
		}
	}
	own, err := s.fromEnvironment()
	if err != nil || own == nil {
		return specs, err
	}
	if slices.ContainsFunc(specs, func(other subscription.Spec) bool { return other.Name == own.Name }) {
		return nil, fmt.Errorf("POSTRIDER_SUBSCRIPTION=%s: a subscription of this name is in %s too; give one of them another name", own.Name, s.Config)
	}
	return append(specs, *own), nil
}
