package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Page is a tab.
type Page struct {
	t   testing.TB
	ctx context.Context

	following sync.WaitGroup

	mu       sync.Mutex
	trouble  []string
	expected []string
}

func (p *Page) note(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = append(p.trouble, what)
}

// Expect says what the browser may complain about from now on: a part of its words, such as "status of 404".
func (p *Page) Expect(parts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, parts...)
}

func (p *Page) checkTrouble() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, what := range p.trouble {
		expected := false
		for _, part := range p.expected {
			expected = expected || strings.Contains(what, part)
		}
		if !expected {
			p.t.Errorf("the browser complained: %s", what)
		}
	}
}

// Do runs actions of chromedp.
func (p *Page) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("the browser: %v\n%s", err, p.text())
	}
}

// Open goes to an address, and returns the status of the answer.
func (p *Page) Open(url string) int64 {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	r, err := chromedp.RunResponse(ctx, chromedp.Navigate(url))
	if err != nil {
		p.t.Fatalf("open %s: %v", url, err)
	}
	return r.Status
}

// Await waits until an expression of JavaScript is true, over loads of other documents.
func (p *Page) Await(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	for {
		is, err := chromedp.Run(ctx, chromedp.Poll[bool]("Boolean("+expression+")", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(5*time.Second)))
		switch {
		case err == nil && is:
			return
		case ctx.Err() != nil:
			p.t.Fatalf("%s: it did not come to that within %s. The page says:\n%s", what, patience, p.text())
		case err != nil && !errors.Is(err, chromedp.ErrPollingTimeout) && !moved(err):
			p.t.Fatalf("%s: %v", what, err)
		}
	}
}

// moved says whether an error comes of a document that another one has taken the place of.
func moved(err error) bool {
	text := err.Error()
	return strings.Contains(text, "context was destroyed") || strings.Contains(text, "Cannot find context") || strings.Contains(text, "navigated") ||
		strings.Contains(text, "context with specified id")
}

// See waits until the page says something.
func (p *Page) See(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.Await(fmt.Sprintf("see %q", text), "document.body && document.body.innerText.includes("+quote(text)+")")
	}
}

// SeeIn waits until the first element of a selector says something.
func (p *Page) SeeIn(selector, text string) {
	p.t.Helper()
	p.Await(fmt.Sprintf("see %q in %s", text, selector), "document.querySelector("+quote(selector)+")?.innerText.includes("+quote(text)+")")
}

// Click clicks the first link or button of a name, and waits for it if need be.
func (p *Page) Click(name string) {
	p.t.Helper()
	find := `[...document.querySelectorAll("a, button, summary")].find((e) => e.checkVisibility() && (e.innerText.trim() === ` + quote(name) + ` || e.getAttribute("aria-label") === ` + quote(name) + `))`
	p.Await(fmt.Sprintf("a button or link %q", name), find)
	p.Do(chromedp.Evaluate[chromedp.Void](find+".setAttribute('data-clicked', '')"), chromedp.Click(chromedp.CSS("[data-clicked]")))
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	// Where the click led to another document, the mark has gone with the one before.
	err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void]("document.querySelector('[data-clicked]')?.removeAttribute('data-clicked')"))
	if err != nil && !moved(err) {
		p.t.Fatalf("the browser: %v\n%s", err, p.text())
	}
}

// Fill puts a text into a field.
func (p *Page) Fill(selector, text string) {
	p.t.Helper()
	field := chromedp.CSS(selector)
	p.Do(chromedp.WaitVisible(field), chromedp.Evaluate[chromedp.Void]("document.querySelector("+quote(selector)+").select()"), chromedp.SendKeys(field, text))
}

// Press presses keys, as a person without a mouse does.
func (p *Page) Press(keys string) {
	p.t.Helper()
	p.Do(chromedp.KeyEvent(keys))
}

// Keys that are no characters.
const (
	Tab   = kb.Tab
	Enter = kb.Enter
)

// Eval returns the value of an expression of JavaScript.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func run[T any](p *Page, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("the browser: %v\n%s", err, p.text())
	}
	return value
}

// Prefer says which colours the person's system has: light or dark.
func (p *Page) Prefer(scheme string) {
	p.t.Helper()
	p.Do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
	p.Await("the page knows of "+scheme, "matchMedia('(prefers-color-scheme: "+scheme+")').matches")
}

// Resize changes the window.
func (p *Page) Resize(width, height int64) {
	p.t.Helper()
	p.Do(chromedp.EmulateViewport(width, height))
}

// finding is one of axe-core's.
type finding struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string   `json:"html"`
		Target  []string `json:"target"`
		Summary string   `json:"failureSummary"`
	} `json:"nodes"`
}

// Accessible fails the test for each rule of axe-core that the page breaks.
func (p *Page) Accessible(what string) {
	p.t.Helper()
	p.Do(chromedp.Evaluate[chromedp.Void](axe(p.t) + "; undefined"))
	text := Eval[string](p, `axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations))`)
	var findings []finding
	if err := json.Unmarshal([]byte(text), &findings); err != nil {
		p.t.Fatalf("axe-core answered %q: %v", text, err)
	}
	for _, f := range findings {
		for _, n := range f.Nodes[:min(len(f.Nodes), 3)] {
			p.t.Errorf("%s: axe-core: %s (%s): %s\n%s", what, f.Help, f.ID, n.HTML, n.Summary)
		}
	}
}

// Shoot writes a picture of the page to a file: for people who look at it.
func (p *Page) Shoot(file string) {
	p.t.Helper()
	png := run(p, chromedp.CaptureScreenshot())
	if err := os.WriteFile(file, png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Page) text() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}

func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can be written
	}
	return string(b)
}
