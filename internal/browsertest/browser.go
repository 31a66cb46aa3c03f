package browsertest

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take to show what a test waits for.
const patience = time.Minute

// Browser is a browser that runs until the test ends. Make one with Start.
type Browser struct{ ctx context.Context }

// Start starts a browser, or skips the test where there is none.
func Start(t testing.TB) *Browser {
	t.Helper()
	// As root it runs without a sandbox: it sees nothing but pages of the test's own.
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(Find(t)), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless,
		chromedp.NoSandbox, chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1280, 900),
	}
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		cancel()
		cancelAllocator()
		t.Fatalf("start the browser: %v", err)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("stop the browser: %v", err)
		}
		cancel()
		cancelAllocator()
	})
	return &Browser{ctx}
}

// Page opens a tab. What goes wrong in it is a failure of the test.
func (b *Browser) Page(t testing.TB, width, height int64) *Page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	p := &Page{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // the tab ends with the context of its first call
		cancel()
		t.Fatalf("open a tab: %v", err)
	}
	p.Do(chromedp.EmulateViewport(width, height))
	target := chromedp.FromContext(ctx).Target
	follow(p, cdp.Events(ctx, target, runtime.ExceptionThrown), func(e runtime.EventExceptionThrown) {
		p.note("exception: " + e.ExceptionDetails.Text + " " + describe(e.ExceptionDetails.Exception))
	})
	follow(p, cdp.Events(ctx, target, runtime.ConsoleAPICalled), func(e runtime.EventConsoleAPICalled) {
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			p.note("console: " + describe(e.Args...))
		}
	})
	follow(p, cdp.Events(ctx, target, log.EntryAdded), func(e log.EventEntryAdded) { // what the policy forbids, too
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.note(string(e.Entry.Source) + ": " + e.Entry.Text + " " + e.Entry.URL)
		}
	})
	t.Cleanup(func() {
		cancel()
		p.following.Wait()
		p.checkTrouble()
	})
	return p
}

// follow calls note for each event until the page is closed.
func follow[E any](p *Page, events iter.Seq2[E, error], note func(E)) {
	p.following.Go(func() {
		for e, err := range events {
			if err != nil {
				return // it is closed
			}
			note(e)
		}
	})
}

func describe(objects ...*runtime.RemoteObject) (text string) {
	for _, o := range objects {
		if o != nil {
			text += string(o.Value) + o.Description + " "
		}
	}
	return text
}
