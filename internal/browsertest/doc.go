// Package browsertest looks at pages with a real browser, for tests.
//
//	b := browsertest.Start(t)            // one browser for a package; the test is skipped where there is none
//	p := b.Page(t, browsertest.Narrow)   // a tab of its own
//	p.Open(url); p.Click("Pause"); p.See("paused")
//
// The browser is Debian's Chromium, which is installed where that is possible, headless, with a new profile, and nothing that it does by
// itself leads outside. What a page writes to its console as an error, what its policy forbids and what it fails to load is a failure of
// the test. Accessibility is judged by axe-core, which npm fetches once into the user's cache.
//
// Nothing here sleeps: a page is asked again whenever it has changed, until what is waited for is there.
package browsertest
