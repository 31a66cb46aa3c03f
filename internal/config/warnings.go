package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/internal/strict"
)

// injected matches what Kubernetes sets in every container when a service is named postrider.
var injected = regexp.MustCompile(`^POSTRIDER_(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_.*)$`)

// Warnings names settings that are set and have no effect.
func (s *Settings) Warnings() []string {
	var texts, known []string
	variables := s.Variables()
	for _, v := range variables {
		known = append(known, v.Name)
	}
	for _, name := range unknownVariables(os.Environ(), known) {
		text := fmt.Sprintf("%s is not a setting and has no effect", name)
		if near := strict.Nearest(name, known); near != "" {
			text += fmt.Sprintf("; did you mean %s?", near)
		}
		texts = append(texts, text)
	}
	if s.CallbackSecrets != nil && s.CallbackURL == "" && !s.ReceivesCallbacks() {
		texts = append(texts, "POSTRIDER_CALLBACK_SECRETS has no effect without POSTRIDER_CALLBACK_URL or POSTRIDER_CALLBACK_ADDR")
	}
	if s.Sink != "" || s.Topics != nil {
		return texts
	}
	for _, v := range variables {
		if _, ok := lookup(v.Name); ok && v.ofSubscription {
			texts = append(texts, fmt.Sprintf("%s has no effect without %s_SINK", v.Name, prefix))
		}
	}
	return texts
}

// unknownVariables returns the environment's variables with our prefix that no setting reads.
func unknownVariables(environ, known []string) []string {
	var unknown []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, prefix+"_") && !strings.HasPrefix(name, secret.Prefix) && !slices.Contains(known, name) && !injected.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
