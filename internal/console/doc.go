// Package console is what a person looks at with a browser: pages that a relay serves, made of what internal/admin returns.
//
//	request ──▶ page (reads, by internal/admin) ──▶ template ──▶ document, or its <main> alone for a page that shows itself anew
//	POST    ──▶ action (changes, by internal/admin) ──▶ 303 to a page, with a word on what happened
//
// A page is a function that returns what its template shows; an action is one that returns where to go on and what to say there. What
// many look at is read once: the sampler reads where all subscriptions stand while somebody looks, and remembers the last minutes.
//
// Pages need no script: assets/console.js asks for a page's <main> every few seconds while the tab is visible, and puts what changed in
// its place. The page of a message asks also when the relay tells of it. Nothing is loaded from elsewhere, and the policy in each answer allows no script or style but the files in assets.
//
// Invariants: nothing is shown that internal/admin would not show. What a page asks of the database is bounded, by limits and by time:
// a look never hurts the database. A GET changes nothing. Whoever may not change something sees no button for it, and is refused if he
// asks all the same. An error is a page with its status: 400 for what was asked wrongly, 404 for what is not there, 503 for a database
// that is away, which shows itself anew until it is back.
package console
