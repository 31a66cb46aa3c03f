package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

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
	_, named := lookup(prefix + "_SUBSCRIPTION")
	sub := subscription.Spec{Start: string(s.Start), Unnamed: !named, Subscription: subscription.Subscription{
		Name: string(s.Subscription), Topics: s.Topics, Sink: string(s.Sink), Settings: s.OfSubscription}}
	return &sub, errors.Join(
		inVariable("SUBSCRIPTION", subscription.CheckName(sub.Name)),
		inVariable("TOPICS", subscription.CheckTopics(sub.Topics)),
		sinkInVariable(s.checkSink(sub.Subscription)),
		inVariable("START", subscription.CheckStart(sub.Start)),
		settingInVariable(sub.Settings.Validate()))
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
	return inVariable(strings.ToUpper(strings.TrimSuffix(name, ":")), err)
}

// Specs returns the subscriptions of the environment and of the file.
func (s *Settings) Specs() ([]subscription.Spec, error) {
	var specs []subscription.Spec
	if s.Config != "" {
		var err error
		if specs, err = ReadFile(string(s.Config), s.checkSink); err != nil {
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
