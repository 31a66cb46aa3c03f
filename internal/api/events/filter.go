package events

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/watch"
)

const mostValues = 100

var parameters = []string{"subscription", "status", "topic", "key", "id"}

// readFilter reads which changes are asked for. A parameter may be there several times: one of its values has to be right.
func readFilter(r *http.Request) (*watch.Filter, error) {
	query := r.URL.Query()
	for name, values := range query {
		if !slices.Contains(parameters, name) {
			return nil, invalid("query.%.50s: unknown query parameter: known are %s", name, strings.Join(parameters, ", "))
		}
		if len(values) > mostValues {
			return nil, invalid("query.%s: is there %d times: at most %d are allowed", name, len(values), mostValues)
		}
	}
	f := &watch.Filter{Subscriptions: query["subscription"], Statuses: query["status"], Keys: query["key"]}
	for _, status := range f.Statuses {
		if !slices.Contains(admin.DeliveryStatuses, status) {
			return nil, invalid("query.status %.50q: must be one of %s", status, strings.Join(admin.DeliveryStatuses, ", "))
		}
	}
	for _, text := range query["id"] {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, invalid("query.id %.50q: must be the number of a message", text)
		}
		f.IDs = append(f.IDs, id)
	}
	if patterns := query["topic"]; patterns != nil {
		var err error
		if f.Topics, err = topic.NewMatcher(patterns); err != nil {
			return nil, invalid("query.topic: %s", err)
		}
	}
	return f, nil
}

func invalid(detail string, args ...any) error {
	return problem.New(http.StatusBadRequest, "invalid_request", detail, args...)
}
