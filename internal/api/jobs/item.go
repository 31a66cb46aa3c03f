package jobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/pull"
)

// check says which field of an item is wrong.
func (i *item) check() error {
	switch after := time.Duration(i.After); {
	case i.Subscription == "":
		return errors.New("subscription: is missing: must be the one that the job came with")
	case i.Token == "":
		return errors.New("token: is missing: must be the one that the job came with")
	case !slices.Contains(pull.Outcomes, i.Outcome):
		return fmt.Errorf("outcome %.60q: must be done, retry, dead, snooze or release", string(i.Outcome))
	case after != 0 && i.Outcome != pull.Retry && i.Outcome != pull.Snooze:
		return fmt.Errorf("after %s: goes with the outcomes retry and snooze, not with %s", after, i.Outcome)
	case after < 0 || after > longestAfter:
		return fmt.Errorf("after %s: must be from 0s to %s", after, longestAfter)
	case i.Outcome == pull.Snooze && after == 0:
		return errors.New("after: is missing: a snooze must say for how long, such as 30s")
	}
	return i.checkResult()
}

func (i *item) checkResult() error {
	result := i.result()
	if result == nil {
		return nil
	}
	if i.Outcome != pull.Done {
		return fmt.Errorf("result: goes with the outcome done, not with %s", i.Outcome)
	}
	if err := sinks.CheckResult(result); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}

// result is what is to be kept: null is nothing.
func (i *item) result() []byte {
	if string(i.Result) == "null" {
		return nil
	}
	return i.Result
}

// cut keeps of a reason what people can read.
func cut(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(reason, "\uFFFD"))
	n := 0
	for at := range reason {
		if n++; n > longestReason {
			return strings.TrimSpace(reason[:at]) + " …"
		}
	}
	return strings.TrimSpace(reason)
}
