package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// request is a request with what pages ask of it.
type request struct {
	http   *http.Request
	values url.Values   // of the query
	cookie *http.Cookie // to be set with the answer
}

func newRequest(r *http.Request) *request { return &request{http: r, values: r.URL.Query()} }

// get is a parameter of the query without blanks around it.
func (q *request) get(name string) string { return strings.TrimSpace(q.values.Get(name)) }

// Values are the query's.
func (q *request) Values() url.Values { return q.values }

// form is a field of the form without blanks around it.
func (q *request) form(name string) string { return strings.TrimSpace(q.http.PostForm.Get(name)) }

// fragment says whether only <main> is wanted, by a page that shows itself anew.
func (q *request) fragment() bool { return q.http.Header.Get("Postrider-Fragment") == "main" }

// number is a parameter that is a number of at least 1, or 0 if it is not there.
func (q *request) number(name string) (int64, error) {
	text := q.get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, badInput("%s %q: must be a whole number, at least 1", name, clip(text, 100))
	}
	return n, nil
}

// choice is a parameter that is one of several, the first of which stands for none.
func (q *request) choice(name string, of ...string) (string, error) {
	text := q.get(name)
	if text == "" {
		return of[0], nil
	}
	for _, o := range of {
		if text == o {
			return o, nil
		}
	}
	return of[0], badInput("%s %q: must be one of %s", name, clip(text, 100), strings.Join(of, ", "))
}

// Path is the path and query of this page.
func (q *request) Path() string { return q.http.URL.RequestURI() }

// With is this page's query with other values: names and values in turn; an empty value takes the parameter away.
func (q *request) With(pairs ...string) string {
	values := url.Values{}
	for name, list := range q.values {
		if len(list) > 0 && list[0] != "" {
			values.Set(name, list[0])
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if values.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return "?" + values.Encode()
}

// ownPath is a path of the console's own: anything else leads to its first page.
func ownPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, `\`) {
		return "/"
	}
	return path
}

// pathNumber is the id in the path; what is no number is not there.
func pathNumber(q *request, what string) (int64, error) {
	text := q.http.PathValue("id")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, &missingError{fmt.Sprintf("there is no %s %q: its id is a number", what, clip(text, 100))}
	}
	return id, nil
}
