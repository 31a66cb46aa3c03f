package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets/*
var assetFiles embed.FS

// page is what is shown.
type page struct {
	Title   string
	Section string        // the menu's entry that it belongs to
	Body    string        // the template, and the key of views
	Every   time.Duration // how often it shows itself anew; 0: never
	Events  string        // where the relay tells of what it shows, if it does
	Status  int           // 0: 200
	Problem string        // what is wrong with what was asked for; the status is 400 then
	Data    any
	To      string // where to go instead
}

// views are the templates of pages by name; each has the layout and what all share.
type views map[string]*template.Template

func parseViews() views {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	all := views{}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		panic(err) // the pattern is right
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name != "layout" && name != "parts" {
			all[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, file))
		}
	}
	return all
}

// shown is what the layout has.
type shown struct {
	*page
	*request
	Menu  []entry
	Flash flash
	Relay string
	Build string

	flush func()
}

// Flush sends what there is of the page so far: what comes takes a moment. Its status is 200 then.
func (s *shown) Flush() string {
	s.flush()
	return ""
}

// entry is one of the menu.
type entry struct{ Name, Path string }

var menu = []entry{{"Overview", "/"}, {"Messages", "/messages"}, {"Dead letters", "/dead"}, {"Operations", "/operations"}, {"Schedules", "/schedules"}, {"Workers", "/workers"}, {"Relays", "/relays"}, {"Doctor", "/doctor"}}

// render answers with a page, or with its <main> alone.
func (h *Handler) render(w http.ResponseWriter, q *request, p *page) {
	s := &shown{page: p, request: q, Menu: menu, Relay: h.Name, Build: h.Version}
	name := "document"
	if q.fragment() {
		name = "main"
	} else {
		s.Flash = takeFlash(w, q.http)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	var text bytes.Buffer
	begun := false
	s.flush = func() {
		begun = true
		_, _ = w.Write(text.Bytes()) // who asked may be gone
		_ = http.NewResponseController(w).Flush()
		text.Reset()
	}
	err := h.views[p.Body].ExecuteTemplate(&text, name, s)
	if err != nil {
		h.Log.Error("a page of the console cannot be written", "page", p.Body, "because", err)
	}
	switch {
	case begun: // an end that is missing is all that can be said of an error
		_, _ = w.Write(text.Bytes())
	case err != nil:
		http.Error(w, "this page cannot be written: the relay's log says why", http.StatusInternalServerError)
	default:
		send(w, q, p, text.Bytes())
	}
}

// send answers with a page that is whole.
func send(w http.ResponseWriter, q *request, p *page, text []byte) {
	status := p.Status
	switch {
	case p.Problem != "":
		status = http.StatusBadRequest
	case status == 0:
		status = http.StatusOK
	}
	if status == http.StatusServiceUnavailable && !q.fragment() {
		w.Header().Set("Refresh", "5") // for browsers without scripts
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // who asked may be gone
}

// assetSums are short sums of the files in assets, by name: with one in its address a file never changes.
var assetSums = func() map[string]string {
	sums := map[string]string{}
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, f := range files {
		text, err := assetFiles.ReadFile("assets/" + f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(text)
		sums[f.Name()] = hex.EncodeToString(sum[:6])
	}
	return sums
}()

// asset is the address of a file in assets.
func asset(name string) string { return "/assets/" + name + "?v=" + assetSums[name] }

func serveAssets() http.Handler {
	files := http.FileServerFS(assetFiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sum := assetSums[path.Base(r.URL.Path)]; sum == "" {
			http.NotFound(w, r)
			return
		} else if r.URL.Query().Get("v") == sum {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		files.ServeHTTP(w, r)
	})
}
