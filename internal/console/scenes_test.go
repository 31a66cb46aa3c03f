package console_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/browsertest"
)

// TestConsole does with a real browser what people do with the console, on a relay and a database that are real, too.
func TestConsole(t *testing.T) {
	w := newWorld(t)
	for _, scene := range []struct {
		name string
		play func(*world, *testing.T)
	}{
		{"lag grows and is seen", lagGrows},
		{"a message is found by its key", findByKey},
		{"why nothing moves", whyNothingMoves},
		{"dead letters are redriven by a filter", redriveByFilter},
		{"pause and resume", pauseAndResume},
		{"replay warns first", replayWarns},
		{"one message is discarded", discardOne},
		{"a job tells how far it is", jobProgresses},
		{"a message's page hears what becomes of it", messageHears},
		{"a schedule runs now", scheduleRuns},
		{"the doctor examines", doctorExamines},
		{"keyboard alone", keyboardAlone},
		{"colours", colours},
		{"every page is accessible and fits a narrow screen", everyPage},
		{"what is asked wrongly", askedWrongly},
		{"whoever may only look", onlyLook},
		{"the database goes away and comes back", databaseAway},
	} {
		t.Run(scene.name, func(t *testing.T) { scene.play(w, t) })
	}
}

func (w *world) enqueue(t *testing.T, topic, key string, n int) {
	t.Helper()
	w.db.Exec(t, `INSERT INTO postrider.outbox (topic, key, payload) SELECT $1, $2 || '-' || i, jsonb_build_object('n', i) FROM generate_series(1, $3::int) i`, topic, key, n)
}

// row is the text of a subscription's row on the overview.
func row(name string) string {
	return fmt.Sprintf("tr[data-key=%q]", name)
}

func lagGrows(w *world, t *testing.T) {
	p := w.page(t, "/")
	p.SeeIn(row("shipping"), "active")
	focus := browsertest.Eval[bool](p, `(document.querySelector("#name").focus(), document.querySelector("#name").value = "ship", true)`)
	w.hook.say(0)
	w.enqueue(t, "parcels.sent", "lag", 321)
	p.SeeIn(row("shipping")+" td:nth-child(3)", "321") // without a reload
	p.Await("a curve of the lag", `document.querySelector('tr[data-key="shipping"] polyline')`)
	if still := browsertest.Eval[bool](p, `document.activeElement.id === "name" && document.activeElement.value === "ship"`); !focus || !still {
		t.Error("the page took the focus, or what was typed, when it showed itself anew")
	}
	w.hook.say(200)
	p.SeeIn(row("shipping")+" td:nth-child(3)", "0")
}

func findByKey(w *world, t *testing.T) {
	p := w.page(t, "/messages")
	p.Fill("#key", "customer-7")
	p.Click("Search")
	p.See("orders.created")
	p.Await("one message", `document.querySelectorAll("tbody tr").length === 1`)
	p.Do(click("tbody th a"))
	p.See(`"id": 4711`, "eu-1", "billing", "delivered", "audit is paused: the store is being moved until Monday")
}

func whyNothingMoves(w *world, t *testing.T) {
	p := w.page(t, "/")
	p.SeeIn("#notices", "the store is being moved until Monday")
	p.SeeIn("#notices", "destination is down")
	p.Click("search")
	p.SeeIn("#state", "down")
	p.SeeIn("#state", "connection refused")
}

func redriveByFilter(w *world, t *testing.T) {
	const many = 2500
	w.hook.say(422)
	w.enqueue(t, "parcels.refused", "dead", many)
	w.enqueue(t, "parcels.other", "other", 7)
	p := w.page(t, "/dead")
	p.See("shipping")
	p.SeeIn(row("shipping"), "2,507")
	w.hook.say(200)
	p.Do(click(row("shipping") + " a"))
	p.SeeIn("#preview", "2,507 dead letters")
	p.See("no postal code") // the reason, without a look at any message
	p.Fill("#topic", "parcels.refused")
	p.Click("Show")
	p.SeeIn("#preview", "2,500 dead letters")
	p.Click("Redrive 2,500")
	p.See("Operation 1: redrive", "redrive of 2,500 messages")
	p.SeeIn("#state", "done") // without a reload
	p.SeeIn("#progress", "2,500 of 2,500")
	p.Open(w.url + "/dead?subscription=shipping")
	p.SeeIn("#preview", "7 dead letters")
	p.Click("Discard 7")
	p.SeeIn("#state", "done")
	p.Open(w.url + "/dead")
	p.See("There are none")
}

func pauseAndResume(w *world, t *testing.T) {
	p := w.page(t, "/subscriptions/billing")
	p.Fill("#reason", "the ledger is closed <b>today</b>")
	p.Click("Pause")
	p.SeeIn("#said", "billing is paused")
	p.SeeIn("#state", "the ledger is closed <b>today</b>")
	p.Open(w.url + "/")
	p.SeeIn(row("billing"), "paused")
	p.Click("billing")
	p.Click("Resume")
	p.SeeIn("#said", "billing is resumed")
	p.SeeIn("#state", "active")
}

func replayWarns(w *world, t *testing.T) {
	p := w.page(t, "/subscriptions/billing")
	p.Click("Replay…")
	p.Fill("#start", "earliest")
	p.Click("Show what that would do")
	p.SeeIn("#preview", "1 message of the log would be delivered")
	before := w.hook.count("/always")
	p.Click("Deliver 1 message again")
	p.SeeIn("#said", "billing goes on from earliest")
	w.until("it is delivered again", func() bool { return w.hook.count("/always") > before })
}

func (r *receiver) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[path]
}

func discardOne(w *world, t *testing.T) {
	w.hook.say(422)
	w.enqueue(t, "parcels.lone", "lone", 1)
	p := w.page(t, "/messages?subscription=shipping&status=dead")
	p.Await("the message is dead", `document.querySelector("tbody th a") || (location.reload(), false)`)
	p.Do(click("tbody th a"))
	p.See("given up", "attempt 1: permanent", "no postal code")
	p.Click("Discard for shipping")
	p.SeeIn("#said", "is discarded for shipping")
	p.SeeIn("[data-key=shipping]", "discarded")
	w.hook.say(200)
	p.Click("Redrive for shipping")
	p.SeeIn("[data-key=shipping] h3", "delivered")
}

// messageHears: a page that does not look any more shows what the relay tells, and hears nothing while nobody can see it.
func messageHears(w *world, t *testing.T) {
	w.hook.say(0)
	w.enqueue(t, "parcels.heard", "heard", 1)
	p := w.page(t, "/messages?key=heard-1")
	p.Do(click("tbody th a"))
	p.SeeIn("[data-key=shipping] h3", "pending")
	browsertest.Eval[bool](p, `(() => {
		const later = setTimeout, ask = fetch, close = EventSource.prototype.close;
		window.asked = window.hungUp = 0;
		window.setTimeout = (f, time, ...more) => time === 3000 ? 0 : later(f, time, ...more);
		window.fetch = (...what) => { window.asked++; return ask(...what); };
		EventSource.prototype.close = function () { window.hungUp++; close.call(this); };
		return true; })()`)
	p.Await("the page has looked for the last time", "asked > 0")
	w.hook.say(200)
	p.SeeIn("[data-key=shipping] h3", "delivered")
	browsertest.Eval[bool](p, `(Object.defineProperty(document, "hidden", { value: true, configurable: true }), document.dispatchEvent(new Event("visibilitychange")))`)
	p.Await("it has hung up", "hungUp === 1")
}

// jobProgresses: who looks at a job sees how far its worker has come, and what it says of it.
func jobProgresses(w *world, t *testing.T) {
	w.enqueue(t, "mail.welcome", "progress", 1)
	var taken struct {
		Jobs []struct {
			ID    int64  `json:"id"`
			Token string `json:"token"`
		} `json:"jobs"`
	}
	w.call(t, "take", `{"worker": "mailer", "incarnation": "1", "from": [{"subscription": "mail", "max": 1}], "wait": "30s"}`, &taken)
	if len(taken.Jobs) != 1 {
		t.Fatalf("there are %d jobs, want 1", len(taken.Jobs))
	}
	p := w.page(t, fmt.Sprintf("/messages/%d", taken.Jobs[0].ID))
	w.call(t, "beat", fmt.Sprintf(`{"worker": "mailer", "incarnation": "1", "progress": [{"subscription": "mail", "id": %d, "token": %q, "percent": 42.5, "note": "page <4> of 10"}]}`,
		taken.Jobs[0].ID, taken.Jobs[0].Token), nil)
	p.SeeIn("[data-key=mail]", "42.5 %: page <4> of 10") // without a reload
	p.Await("a bar", `document.querySelector("[data-key=mail] progress").position === 0.425`)
	p.Accessible("a job with progress")
	w.call(t, "settle", fmt.Sprintf(`{"worker": "mailer", "incarnation": "1", "items": [{"subscription": "mail", "id": %d, "token": %q, "outcome": "done"}]}`,
		taken.Jobs[0].ID, taken.Jobs[0].Token), nil)
	p.SeeIn("[data-key=mail] h3", "delivered")
	p.Await("the bar is gone", `!document.querySelector("[data-key=mail] progress")`)
}

// call asks the relay as a worker does.
func (w *world) call(t *testing.T, verb, body string, answer any) {
	t.Helper()
	r, err := http.Post(w.url+"/api/v1/jobs/"+verb, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s %v", verb, body, r.StatusCode, text, err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatalf("%s: %s: %v", verb, text, err)
		}
	}
}

func scheduleRuns(w *world, t *testing.T) {
	p := w.page(t, "/schedules")
	p.Click("Run now: nightly")
	p.SeeIn("#said", "Schedule nightly has put message")
	p.Click("Pause nightly")
	p.SeeIn(row("nightly"), "paused")
	p.Click("Resume nightly")
	p.SeeIn(row("nightly"), "active")
}

func doctorExamines(w *world, t *testing.T) {
	p := w.page(t, "/doctor")
	p.Click("Examine")
	p.SeeIn("#result", "ok")
	p.See("subscriptions", "has been paused")
}

// keyboardAlone goes from the first page to a message without a mouse.
func keyboardAlone(w *world, t *testing.T) {
	p := w.page(t, "/")
	p.Press(browsertest.Tab)
	if focused := browsertest.Eval[string](p, "document.activeElement.innerText"); focused != "Skip to the contents" {
		t.Errorf("the first stop is %q", focused)
	}
	p.Press(browsertest.Enter)
	p.Await("the contents have the focus", `document.activeElement.id === "main"`)
	p.Press("/")
	p.Await("the search has the focus", `document.activeElement.id === "name"`)
	p.Fill("#name", "bill"+browsertest.Enter)
	p.Await("the list is filtered", `document.querySelectorAll("tbody tr").length === 1`)
	for range 40 { // as often as it takes to the link in the list
		if browsertest.Eval[string](p, "document.activeElement.innerText") == "billing" {
			break
		}
		p.Press(browsertest.Tab)
	}
	if outline := browsertest.Eval[string](p, "getComputedStyle(document.activeElement).outlineStyle"); outline != "solid" {
		t.Errorf("what has the focus has an outline that is %q", outline)
	}
	p.Press(browsertest.Enter)
	p.SeeIn("h1", "billing")
}

func colours(w *world, t *testing.T) {
	p := w.page(t, "/")
	ground := func() string {
		return browsertest.Eval[string](p, "getComputedStyle(document.body).backgroundColor")
	}
	p.Prefer("light")
	light := ground()
	p.Prefer("dark")
	if dark := ground(); dark == light {
		t.Errorf("light and dark are both %s", dark)
	}
	p.Click("light")
	if now := ground(); now != light {
		t.Errorf("when light was chosen it is %s, want %s", now, light)
	}
	p.Open(w.url + "/relays")
	if now := ground(); now != light {
		t.Errorf("on the next page it is %s, want %s", now, light)
	}
	p.Click("auto")
}

// everyPage looks at all pages, in both colours and on a telephone. With CONSOLE_SHOTS it leaves pictures of them there.
func everyPage(w *world, t *testing.T) {
	w.hook.say(422)
	w.enqueue(t, "parcels.lost", "a rather long key that somebody has chosen and that has no place to be broken: "+strings.Repeat("x", 80), 3)
	p := w.browser.Page(t, 1280, 900)
	p.Expect("status of 404")
	for name, path := range map[string]string{
		"overview": "/", "subscription": "/subscriptions/shipping", "paused": "/subscriptions/audit", "pull": "/subscriptions/mail", "replay": "/subscriptions/billing/replay?start=1h",
		"messages": "/messages", "search": "/messages?subscription=shipping", "message": "/messages/1", "dead": "/dead", "dead-letters": "/dead?subscription=shipping",
		"operations": "/operations", "operation": "/operations/1", "schedules": "/schedules", "workers": "/workers", "relays": "/relays", "doctor": "/doctor?run=now", "missing": "/nothing",
	} {
		for _, scheme := range []string{"light", "dark"} {
			p.Resize(1280, 900)
			p.Open(w.url + path)
			p.Prefer(scheme)
			p.Accessible(name + ", " + scheme)
			shoot(p, name+"-"+scheme)
		}
		p.Resize(360, 740)
		p.Open(w.url + path)
		if wide := browsertest.Eval[int](p, "document.documentElement.scrollWidth"); wide > 360 {
			t.Errorf("%s is %d wide on a screen of 360", path, wide)
		}
		shoot(p, name+"-narrow")
	}
	w.hook.say(200)
}

func shoot(p *browsertest.Page, name string) {
	if dir := os.Getenv("CONSOLE_SHOTS"); dir != "" {
		p.Shoot(filepath.Join(dir, name+".png"))
	}
}

func askedWrongly(w *world, t *testing.T) {
	p := w.browser.Page(t, 1280, 900)
	p.Expect("status of 404", "status of 400")
	for path, want := range map[string]struct {
		status int64
		says   string
	}{
		"/messages?since=yesterday":                  {400, `since "yesterday": must be a time such as`},
		"/messages?status=dead":                      {400, "name a subscription, too"},
		"/messages/find?id=x":                        {400, `id "x": must be a whole number`},
		"/?sort=height":                              {400, `sort "height": must be one of attention, name`},
		"/dead?subscription=shipping&topic=a..b":     {400, "must be a pattern"},
		"/subscriptions/billing/replay?start=always": {400, `start "always": must be earliest, now`},
		"/subscriptions/biling":                      {404, `did you mean "billing"?`},
		"/messages/123456789":                        {404, "there is no message 123456789"},
		"/operations/99":                             {404, "there is no operation 99"},
		"/elsewhere":                                 {404, "the menu has all pages"},
	} {
		if status := p.Open(w.url + path); status != want.status {
			t.Errorf("%s answers %d, want %d", path, status, want.status)
		}
		p.See(want.says)
	}
	r, err := http.PostForm(w.url+"/subscriptions/billing/replay", map[string][]string{"start": {"<script>"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 400 {
		t.Errorf("a replay from nowhere answers %d", r.StatusCode)
	}
}

// onlyLook: who may not change something sees no button for it, and is refused if he asks all the same.
func onlyLook(w *world, t *testing.T) {
	viewer := &world{t: t, db: w.db, link: w.link, binary: w.binary, browser: w.browser, role: w.role}
	url := viewer.relay("relay-b", "POSTRIDER_API_TOKENS=eve:viewer=env:EVE,olga:operator=env:OLGA", "EVE=a-token-to-look-with", "OLGA=a-token-to-steer-with")
	p := w.browser.Page(t, 1280, 900)
	p.Expect("status of 403")
	p.Open(url + "/subscriptions/billing")
	accent := browsertest.Eval[string](p, `getComputedStyle(document.querySelector("button")).backgroundColor`)
	p.Fill("#token", "a-token-to-look-with")
	p.Click("Log in")
	p.SeeIn("h1", "billing")
	p.See("eve (viewer)")
	p.Await("the accent of the page that asks for a token is the console's", fmt.Sprintf("getComputedStyle(document.querySelector('nav [aria-current]')).color === %q", accent))
	for _, path := range []string{"/subscriptions/billing", "/schedules", "/messages/1", "/dead?subscription=shipping", "/operations"} {
		p.Open(url + path)
		if n := browsertest.Eval[int](p, `document.querySelectorAll("main form[method=post]").length`); n != 0 {
			t.Errorf("%s has %d forms that change something", path, n)
		}
	}
	status := browsertest.Eval[int](p, `fetch("/subscriptions/billing/pause", {method: "POST"}).then((r) => r.status)`)
	if status != 403 {
		t.Errorf("a pause answers %d, want 403", status)
	}
	p.Click("Log out")
	p.Fill("#token", "a-token-to-steer-with")
	p.Click("Log in")
	p.See("olga (operator)")
	p.Open(url + "/subscriptions/billing")
	p.Click("Pause")
	p.SeeIn("#said", "billing is paused")
	p.Click("Resume")
	p.SeeIn("#said", "billing is resumed")
}

func databaseAway(w *world, t *testing.T) {
	p := w.page(t, "/")
	p.Expect("status of 503")
	away := w.browser.Page(t, 1280, 900)
	away.Expect("status of 503")
	w.link.Cut()
	p.SeeIn("#live", "These figures are old") // and they stay
	p.See("billing")
	if status := away.Open(w.url + "/relays"); status != 503 {
		t.Errorf("without a database the page answers %d", status)
	}
	away.See("The database cannot be asked now")
	if err := w.link.Heal(); err != nil {
		t.Fatal(err)
	}
	away.See("The log is a ring") // without anybody doing anything
	p.Await("the figures are new again", `document.querySelector("#live").innerText === ""`)
}
