package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/relay/watch"
)

func (a *app) eventsCommand() *cobra.Command {
	query := url.Values{}
	api, token := "http://127.0.0.1:8482", ""
	flags := map[string]*[]string{}
	cmd := a.withJSON(&cobra.Command{
		Use:   "events",
		Short: "Print what becomes of messages, while it happens, until Ctrl-C",
		Long: `Listen to a relay's API, and print what becomes of messages, a line each, until Ctrl-C. Each flag may be given several times: one of its values
has to be right. Where the relay has tokens, --token leads to one.`,
		Example: "  postrider events --status dead --status retrying\n  postrider events --subscription billing --key customer-7 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for name, values := range flags {
				for _, value := range *values {
					query.Add(name, value)
				}
			}
			bearer, err := readToken(token)
			if err != nil {
				return err
			}
			return a.listen(cmd.Context(), api, bearer, query)
		},
	})
	cmd.Flags().StringVar(&api, "api", api, "where a relay serves its API")
	cmd.Flags().StringVar(&token, "token", "", "a reference to a token of the relay: env:NAME or file:/path")
	for _, f := range [][2]string{{"subscription", "of this subscription"}, {"status", "with this status, such as dead"}, {"topic", "whose topic this pattern matches"},
		{"key", "with this key"}, {"id", "with this id"}} {
		flags[f[0]] = cmd.Flags().StringArray(f[0], nil, f[1])
	}
	return cmd
}

// readToken follows a reference, where there is one.
func readToken(ref string) (secret.Text, error) {
	if ref == "" {
		return secret.NewText(""), nil
	}
	r, err := secret.ParseReference("--token", ref)
	if err != nil {
		return secret.Text{}, err
	}
	text, err := r.Read((*secret.Store)(nil).Own())
	if err != nil {
		return text, fmt.Errorf("--token: %w", err)
	}
	return text, nil
}

// listen prints changes until ctx is cancelled or the relay is gone.
func (a *app) listen(ctx context.Context, api string, bearer secret.Text, query url.Values) error {
	at, err := url.Parse(api)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return fmt.Errorf("--api %s: must look like http://127.0.0.1:8482", api)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(api, "/")+"/api/v1/events?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	if token := bearer.Reveal(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--api %s: %w", api, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refusedBy(res)
	}
	err = a.printEvents(res.Body)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("the relay has ended the stream")
	}
	return err
}

func refusedBy(res *http.Response) error {
	var p struct{ Detail string }
	if json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&p) != nil || p.Detail == "" {
		return fmt.Errorf("the API answers %s", res.Status)
	}
	return errors.New(p.Detail)
}

func (a *app) printEvents(stream io.Reader) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 16<<20)
	kind := ""
	for lines.Scan() {
		switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
		case "event":
			kind = value
		case "data":
			a.printEvent(kind, value)
		}
	}
	return lines.Err()
}

func (a *app) printEvent(kind, data string) {
	switch kind {
	case "gap":
		fmt.Fprintln(a.err, "postrider: something was missed")
	case "change":
		var c watch.Change
		if a.json || json.Unmarshal([]byte(data), &c) != nil {
			a.printf("%s\n", data)
			return
		}
		line := fmt.Sprintf("%s  %-9s %s  %d  %s", c.At.Format("15:04:05.000"), c.Status, c.Subscription, c.ID, c.Topic)
		if c.Key != "" {
			line += "  " + c.Key
		}
		if c.Reason != "" {
			line += "  " + human.Clip(c.Reason, 200)
		}
		a.printf("%s\n", human.OneLine(line))
	}
}
