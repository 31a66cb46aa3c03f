package config

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/postrider/postrider/relay/schedule"
)

// scheduleKeys are what a schedule may say.
var scheduleKeys = []string{"name", "cron", "zone", "topic", "key", "payload", "headers", "priority", "missed"}

// ReadSchedules returns the schedules of a YAML file. All its problems are reported at once, each with its line.
func ReadSchedules(path string) (specs []schedule.Spec, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := newFileReader(nil)
	r.lists(text, "schedules", "subscriptions", func(list entry) {
		items, _ := r.sequence(list.value, "schedules")
		for _, item := range items {
			if entries, ok := r.mapping(item, "a schedule"); ok {
				specs = append(specs, r.schedule(line(item), entries))
			}
		}
	})
	if len(specs) == 0 && len(r.problems) == 0 {
		r.problem(1, "no schedules: the file looks like\nschedules:\n  - name: nightly-report\n    cron: 30 2 * * *\n    zone: Europe/Berlin\n    topic: reports.nightly")
	}
	return specs, r.report(path)
}

func (r *fileReader) schedule(at int, entries []entry) schedule.Spec {
	s, lines := schedule.NewSpec(), map[string]int{}
	for _, e := range entries {
		if !r.known(e, scheduleKeys...) {
			continue
		}
		lines[e.key] = e.line
		if !r.scheduleField(&s, e) {
			continue
		}
		if err := s.Check(e.key); err != nil {
			r.problem(e.line, "%s", err)
		}
	}
	for _, key := range []string{"name", "cron", "topic"} {
		if lines[key] == 0 {
			r.problem(at, "a schedule without %s", key)
		}
	}
	if first := r.names[s.Name]; first != 0 {
		r.problem(lines["name"], "the name %q is taken by the schedule in line %d", s.Name, first)
	} else if s.Name != "" {
		r.names[s.Name] = lines["name"]
	}
	return s
}

// scheduleField reads one key, and reports whether it could be read.
func (r *fileReader) scheduleField(s *schedule.Spec, e entry) bool {
	switch e.key {
	case "payload":
		value, ok := r.value(e.value)
		if !ok {
			return false
		}
		text, err := json.Marshal(value)
		if err != nil {
			r.problem(e.line, "payload: %s", err)
			return false
		}
		s.Payload = text
		return true
	case "headers":
		entries, ok := r.mapping(e.value, e.key)
		s.Headers = make(map[string]string, len(entries))
		for _, h := range entries {
			text, isText := r.scalar(h.value, "header "+strconv.Quote(h.key))
			s.Headers[h.key], ok = text, ok && isText
		}
		return ok
	}
	text, ok := r.scalar(e.value, e.key)
	if !ok {
		return false
	}
	if e.key == "priority" {
		n, err := strconv.Atoi(text)
		if err != nil {
			r.problem(e.line, "%s", fmt.Sprintf("priority %q: must be a number from 1 (first) to 4 (last)", text))
		}
		s.Priority = n
		return err == nil
	}
	if e.key == "key" {
		s.Key = &text
		return true
	}
	*map[string]*string{"name": &s.Name, "cron": &s.Cron, "zone": &s.Zone, "topic": &s.Topic, "missed": &s.Missed}[e.key] = text
	return true
}
