package amazontest

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// check refuses a batch that breaks a limit.
func (s *Server) check(q *request) *Fault {
	total, seen := 0, map[string]bool{}
	for i := range q.entries {
		e := &q.entries[i]
		size, bad := e.attributes()
		if bad == nil {
			bad = e.check(strings.HasSuffix(q.name, ".fifo"))
		}
		if bad != nil {
			return bad
		}
		if seen[e.Id] {
			return &Fault{Code: "BatchEntryIdsNotDistinct"}
		}
		total, seen[e.Id] = total+size+len(e.MessageBody), true
	}
	switch {
	case len(q.entries) > 10:
		return &Fault{Code: "TooManyEntriesInBatchRequest"}
	case total > s.most:
		return &Fault{Code: "AWS.SimpleQueueService.BatchRequestTooLong", Message: fmt.Sprintf("Batch requests cannot be longer than %d bytes. You have sent %d bytes.", s.most, total)}
	}
	return nil
}

func (e *entry) attributes() (size int, bad *Fault) {
	for name, a := range e.MessageAttributes {
		if a.StringValue == "" || a.DataType != "String" || !allowed(a.StringValue) {
			return 0, &Fault{Code: "InvalidParameterValue", Message: fmt.Sprintf("The message attribute %q is invalid", name)}
		}
		size += len(name) + len(a.DataType) + len(a.StringValue)
	}
	if len(e.MessageAttributes) > 10 {
		return 0, &Fault{Code: "InvalidParameterValue", Message: "Number of message attributes exceeds the allowed maximum"}
	}
	return size, nil
}

func (e *entry) check(fifo bool) *Fault {
	group := e.MessageGroupId
	switch {
	case e.MessageBody == "":
		return &Fault{Code: "MissingParameter", Message: "The request must contain the parameter MessageBody."}
	case !allowed(e.MessageBody):
		return &Fault{Code: "InvalidMessageContents", Message: "Invalid characters found"}
	case fifo != (group != "" && e.MessageDeduplicationId != ""), len(group) > 128, strings.ContainsFunc(group, func(r rune) bool { return r <= ' ' || r > '~' }):
		return &Fault{Code: "InvalidParameterValue", Message: fmt.Sprintf("Value %q for parameter MessageGroupId is invalid", group)}
	}
	return nil
}

func allowed(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return r < 0x20 && r != 9 && r != 10 && r != 13 || r > 0xFFFD && r < 0x10000
	})
}
