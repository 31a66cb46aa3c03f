package amazon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

// cause is what a code of the services says.
type cause int

const (
	other   cause = iota
	setup         // somebody has to change something
	away          // it may pass by itself
	content       // what is in a message can never be taken
)

// causes has codes by their last part, without Exception at the end: the two protocols spell one code in several ways. See "Common Errors" and those of
// SendMessageBatch and PublishBatch in the services' references.
var causes = map[string]cause{
	"AccessDenied": setup, "NotAuthorized": setup, "AuthorizationError": setup, "AuthFailure": setup, "InvalidClientTokenId": setup, "UnrecognizedClient": setup,
	"SignatureDoesNotMatch": setup, "InvalidSignature": setup, "IncompleteSignature": setup, "MissingAuthenticationToken": setup, "ExpiredToken": setup, "OptInRequired": setup,
	"InvalidAccessKeyId": setup, "InvalidSecurity": setup, "RequestExpired": setup, "RequestTimeTooSkewed": setup, "SubscriptionRequired": setup,
	"QueueDoesNotExist": setup, "NonExistentQueue": setup, "QueueDeletedRecently": setup, "NotFound": setup, "ResourceNotFound": setup, "InvalidAddress": setup, "InvalidAction": setup,
	"UnsupportedOperation": setup, "KmsAccessDenied": setup, "KMSAccessDenied": setup, "KmsDisabled": setup, "KMSDisabled": setup, "KmsInvalidKeyUsage": setup,
	"KmsInvalidState": setup, "KMSInvalidState": setup, "KmsNotFound": setup, "KMSNotFound": setup, "KmsOptInRequired": setup, "KMSOptInRequired": setup,

	"Throttling": away, "Throttled": away, "RequestThrottled": away, "RequestLimitExceeded": away, "TooManyRequests": away, "OverLimit": away, "SlowDown": away,
	"KmsThrottled": away, "KMSThrottling": away, "ServiceUnavailable": away, "InternalFailure": away, "InternalError": away, "InternalServerError": away, "RequestTimeout": away,

	"InvalidMessageContents": content, "InvalidParameter": content, "InvalidParameterValue": content, "ParameterValueInvalid": content, "InvalidAttributeValue": content,
	"InvalidAttributeName": content, "BatchRequestTooLong": content, "MessageTooLong": content, "Validation": content, "ValidationError": content,
}

// causeOf reads a code such as AWS.SimpleQueueService.NonExistentQueue or ThrottlingException.
func causeOf(code string) cause {
	code = code[strings.LastIndexAny(code, ".#")+1:]
	return causes[strings.TrimSuffix(code, "Exception")]
}

// refuses says that a request was refused for what may be in one of its messages.
func refuses(err error) bool { return causeOfError(err) == content }

// Outcome makes an outcome of an error that a request ended with.
func Outcome(err error) error {
	if _, is := errors.AsType[*sinks.OutcomeError](err); is {
		return err
	}
	err = inShort(err)
	answer, answered := answerOf(err)
	fault := wire.Fault(err)
	switch cause := causeOfError(err); {
	case fault != nil:
		return sinks.Misconfigured(errors.New(oneLine(fault.Error())))
	case errors.Is(err, errCredentials):
		return sinks.Misconfigured(fmt.Errorf("%s: give access_key_id and secret_access_key, or what the SDKs of AWS look for; a machine's role takes instance_metadata", oneLine(err.Error())))
	case cause == setup:
		return sinks.Misconfigured(errors.New(lastPart(err) + remedyOf(err)))
	case cause == away:
		return sinks.Unavailable(errors.New(lastPart(err)), retryAfter(answer))
	case cause == content:
		return sinks.Permanent(errors.New(lastPart(err)))
	case errors.Is(err, context.DeadlineExceeded):
		return sinks.Unavailable(fmt.Errorf("no answer in time: %w", err), 0)
	case answered && answer.HTTPStatusCode()/100 == 4:
		return sinks.Retryable(errors.New(lastPart(err)), 0)
	}
	return sinks.Unavailable(errors.New(lastPart(err)), 0)
}

// causeOfError is what an error says by its code, and else by its status.
func causeOfError(err error) cause {
	if api, said := errors.AsType[smithy.APIError](err); said && causeOf(api.ErrorCode()) != other {
		return causeOf(api.ErrorCode())
	}
	answer, answered := answerOf(err)
	if !answered {
		return other
	}
	switch status := answer.HTTPStatusCode(); {
	case status == http.StatusTooManyRequests || status >= 500:
		return away
	case status == http.StatusForbidden || status == http.StatusUnauthorized || status/100 == 3:
		return setup
	case status == http.StatusRequestEntityTooLarge:
		return content
	}
	return other
}

// Failed makes an outcome of an entry of the list Failed.
func Failed(code, message string, ofSender bool) error {
	said := errors.New(strings.TrimSpace(fmt.Sprintf("%s: %s", code, oneLine(message))))
	switch cause := causeOf(code); {
	case cause == setup:
		return sinks.Misconfigured(fmt.Errorf("%w%s", said, remedy(code)))
	case cause == away:
		return sinks.Unavailable(said, 0)
	case cause == content && ofSender:
		return sinks.Permanent(said)
	}
	return sinks.Retryable(said, 0)
}

// inShort leaves out what the SDK says of itself: the name of the operation, and counts of attempts.
func inShort(err error) error {
	if e, ok := errors.AsType[*smithy.OperationError](err); ok {
		return e.Err
	}
	return err
}

// lastPart is what was said, in one line.
func lastPart(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return reason(api)
	}
	if answer, ok := answerOf(err); ok {
		return fmt.Sprintf("the server answered with status %d: %s", answer.HTTPStatusCode(), oneLine(answer.Err.Error()))
	}
	if failed, ok := errors.AsType[*url.Error](err); ok { // without method and address, which the sink's URL shows
		err = failed.Err
	}
	return oneLine(err.Error())
}

// answerOf returns the answer that an error is about, if there was one.
func answerOf(err error) (*smithyhttp.ResponseError, bool) {
	answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return answer, ok && answer.Response != nil && answer.Response.Response != nil
}

func reason(api smithy.APIError) string {
	return strings.TrimSuffix(fmt.Sprintf("%s: %s", api.ErrorCode(), oneLine(api.ErrorMessage())), ": ")
}

// oneLine is a text as one line, of bounded length.
func oneLine(text string) string {
	const most = 500
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func remedyOf(err error) string {
	if api, said := errors.AsType[smithy.APIError](err); said {
		return remedy(api.ErrorCode())
	}
	return ""
}

// remedy says what would help.
func remedy(code string) string {
	switch code = strings.TrimSuffix(code[strings.LastIndexAny(code, ".#")+1:], "Exception"); {
	case code == "QueueDoesNotExist", code == "NonExistentQueue", code == "NotFound":
		return ": create it, or correct name, region and account in the sink's URL (this sink never creates one)"
	case strings.Contains(code, "AccessDenied") || code == "AuthorizationError":
		return ": the identity needs the permissions that the page on this sink lists"
	case strings.Contains(code, "Token"), strings.Contains(code, "Signature"), code == "UnrecognizedClient", code == "InvalidAccessKeyId":
		return ": access_key_id or secret_access_key is wrong or has expired"
	case code == "RequestExpired", code == "RequestTimeTooSkewed":
		return ": the clock of this machine is wrong"
	}
	return ""
}

func retryAfter(answer *smithyhttp.ResponseError) time.Duration {
	if answer == nil || answer.Response == nil || answer.Response.Response == nil {
		return 0
	}
	seconds, err := strconv.Atoi(answer.Response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// Unfit makes what somebody has to change a sinks.UnfitError.
func Unfit(outcome error) error {
	if kind, _ := sinks.Classify(outcome); kind != sinks.KindMisconfigured {
		return outcome
	}
	return &sinks.UnfitError{Text: outcome.Error(), Remedy: "change it there, or in the subscription"}
}

// Denied says that an error is that of who is known and has no permission.
func Denied(err error) bool {
	api, said := errors.AsType[smithy.APIError](err)
	return said && (strings.Contains(api.ErrorCode(), "AccessDenied") || api.ErrorCode() == "AuthorizationError" || api.ErrorCode() == "NotAuthorized")
}
