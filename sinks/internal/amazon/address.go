package amazon

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Resource is a queue or a topic.
type Resource struct {
	Partition, Region, Account, Name string
	// FIFO says that it keeps the order of a group, and drops what it has had within five minutes.
	FIFO bool
}

var (
	region  = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
	account = regexp.MustCompile(`^[0-9]{12}$`)
)

// ARN returns its name in full.
func (r Resource) ARN(service string) string {
	return strings.Join([]string{"arn", r.Partition, service, r.Region, r.Account, r.Name}, ":")
}

// ParseARN reads arn:aws:SERVICE:region:account:name.
func ParseARN(service, text string, longest int) (r Resource, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 6 || parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") || parts[2] != service {
		return r, fmt.Errorf("must hold an ARN as in arn:aws:%s:eu-central-1:123456789012:orders", service)
	}
	r = Resource{Partition: parts[1], Region: parts[3], Account: parts[4], Name: parts[5]}
	if !account.MatchString(r.Account) {
		return r, fmt.Errorf("has the account %q in the ARN: must be 12 digits", r.Account)
	}
	return r, r.Check(longest)
}

// Check says what is wrong with region and name.
func (r *Resource) Check(longest int) error {
	base, fifo := strings.CutSuffix(r.Name, ".fifo")
	r.FIFO = fifo
	switch {
	case !region.MatchString(r.Region):
		return fmt.Errorf("has the region %q: must be one such as eu-central-1", r.Region)
	case base == "" || len(r.Name) > longest || strings.Trim(base, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "":
		return fmt.Errorf("has the name %.60q: must be of letters, digits, - and _, at most %d of them; .fifo is at the end of a FIFO one", r.Name, longest)
	}
	return nil
}

// examples are URLs of sinks, by service.
var examples = map[string]string{
	"sqs": "sqs://orders?region=eu-central-1 or sqs:arn:aws:sqs:eu-central-1:123456789012:orders",
	"sns": "sns:arn:aws:sns:eu-central-1:123456789012:orders",
}

// ParseURL reads a sink's URL, and what it has of the options. Names are of longest bytes at most. Its errors go on after "the sink's URL".
func (o *Options) ParseURL(raw, service string, longest int) (r Resource, err error) {
	if strings.Contains(raw, "@") {
		return r, errors.New("holds user info: give references to credentials as options")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Fragment != "" || u.Path != "" || u.Opaque == "" && service == "sns" {
		return r, fmt.Errorf("must be as in %s", examples[service])
	}
	inQuery, err := o.parseQuery(u.RawQuery, u.Opaque == "")
	if err != nil {
		return r, err
	}
	if u.Opaque != "" {
		return ParseARN(service, u.Opaque, longest)
	}
	if inQuery == "" {
		return r, errors.New("names no region: add it, as in ?region=eu-central-1")
	}
	r = Resource{Partition: "aws", Region: inQuery, Name: u.Host}
	return r, r.Check(longest)
}

func (o *Options) parseQuery(raw string, regional bool) (region string, err error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return "", errors.New("has a query that cannot be read")
	}
	for key, values := range query {
		to := map[string]*string{"region": &region, "endpoint": &o.Endpoint}[key]
		switch {
		case to == nil:
			return "", fmt.Errorf("sets %q: it may set region or endpoint; all else stands in the options", key)
		case key == "region" && !regional:
			return "", errors.New("names a region beside the ARN, which has one")
		case len(values) > 1 || *to != "":
			return "", fmt.Errorf("or the options: %s is given twice", key)
		}
		*to = values[0]
	}
	return region, nil
}
