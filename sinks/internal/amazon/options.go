package amazon

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/tlsfiles"
)

// Sizes, in bytes. Since 2025 both services take the larger one; queues that are older, and topics, are set to the smaller one unless somebody raises it.
const (
	DefaultMaxMessageBytes = 256 << 10
	mostMessageBytes       = 1 << 20
)

// Options are the settings of a subscription that all services have.
type Options struct {
	// Endpoint is the URL of a server that is compatible, or of a VPC endpoint. Default: the service's own for the region.
	Endpoint string `json:"endpoint,omitempty"`
	// Attributes are headers that are attributes of their own, two at most.
	Attributes []string `json:"attributes,omitempty"`
	// MaxMessageBytes is how large a message may be with its attributes, and all messages of one request together. Default: 256 KiB.
	MaxMessageBytes int `json:"max_message_bytes,omitempty"`

	// AccessKeyID is an id or a reference (env:NAME, file:/path) to one; the others are references. Default: what the process has from its
	// surroundings, as the SDKs of AWS look for it.
	AccessKeyID     string `json:"access_key_id,omitempty" secret:"reference"`
	SecretAccessKey string `json:"secret_access_key,omitempty" secret:"reference"`
	SessionToken    string `json:"session_token,omitempty" secret:"reference"`
	// InstanceMetadata says that credentials may be asked of the machine's metadata service, at 169.254.169.254.
	InstanceMetadata bool `json:"instance_metadata,omitempty"`

	TLS   tlsfiles.Options `json:"tls,omitzero"`
	Guard guard.Options    `json:"guard,omitzero"`
}

// Check says what is wrong with the options.
func (o *Options) Check() error {
	_, guarded := guard.New(o.Guard)
	for _, err := range []error{o.checkEndpoint(), o.checkMessages(), o.checkCredentials(), o.TLS.Check(), guarded} {
		if err != nil {
			return err
		}
	}
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, DefaultMaxMessageBytes)
	return nil
}

// ofAmazon are hosts of AWS.
var ofAmazon = regexp.MustCompile(`(?i)\.(amazonaws\.com|amazonaws\.com\.cn|api\.aws|api\.amazonwebservices\.com\.cn)$`)

func (o *Options) checkEndpoint() error {
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || !bare(u):
		return errors.New("endpoint: must be a URL as in https://host or http://localhost:4566, without a path")
	case u.Scheme == "http" && o.TLS != tlsfiles.Options{}:
		return errors.New("endpoint is an http URL, and tls is given: begin it with https")
	}
	if err := sinks.CheckHost(u); err != nil {
		return fmt.Errorf("endpoint %w", err)
	}
	if o.AccessKeyID == "" && !ofAmazon.MatchString(u.Hostname()) {
		return errors.New("endpoint is not a host of AWS: give access_key_id and secret_access_key, for what the process itself has is sent to AWS alone")
	}
	return nil
}

// bare says that a URL is of a server, and of nothing within it.
func bare(u *url.URL) bool {
	return (u.Scheme == "https" || u.Scheme == "http") && u.User == nil && u.RawQuery == "" && u.Fragment == "" && strings.Trim(u.Path, "/") == ""
}

// attributeName is what the services take as a name.
var attributeName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (o *Options) checkMessages() error {
	if o.MaxMessageBytes < 0 || o.MaxMessageBytes > mostMessageBytes {
		return fmt.Errorf("max_message_bytes %d: must be from 1 to %d", o.MaxMessageBytes, mostMessageBytes)
	}
	if len(o.Attributes) > mostOwn {
		return fmt.Errorf("attributes has %d names: must have at most %d, all other headers are in the attribute headers", len(o.Attributes), mostOwn)
	}
	for i, name := range o.Attributes {
		lower := strings.ToLower(name)
		switch {
		case len(name) > 256 || !attributeName.MatchString(name) || strings.HasPrefix(lower, "aws.") || strings.HasPrefix(lower, "amazon."):
			return fmt.Errorf("attributes has the name %.40q: it must be of letters, digits, _, - and single periods; what begins with AWS. or Amazon. is Amazon's own", name)
		case ours[name]:
			return fmt.Errorf("attributes has the name %q, which an attribute of each message has already", name)
		case i > 0 && name == o.Attributes[0]:
			return fmt.Errorf("attributes has the name %q twice", name)
		}
	}
	return nil
}

func (o *Options) checkCredentials() error {
	if (o.AccessKeyID == "") != (o.SecretAccessKey == "") || o.SessionToken != "" && o.AccessKeyID == "" {
		return errors.New("access_key_id and secret_access_key: it takes both, or none of them")
	}
	if o.InstanceMetadata && o.AccessKeyID != "" {
		return errors.New("instance_metadata and access_key_id: it takes one of them")
	}
	for setting, ref := range map[string]string{"access_key_id": o.AccessKeyID, "secret_access_key": o.SecretAccessKey, "session_token": o.SessionToken} {
		if ref == "" || setting == "access_key_id" && !secret.IsReference(ref) {
			continue
		}
		if _, err := secret.ParseReference(setting, ref); err != nil {
			return err
		}
	}
	return nil
}
