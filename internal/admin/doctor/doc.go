// Package doctor examines a database as the relay's role sees it, and says for each thing that is wrong what mends it: the exact SQL,
// setting or command.
//
//	Examine ──▶ connect ──▶ checks, in order ──▶ []Finding{name, ok|note|warn|fail, message, remedy}
//	                          │
//	                          ├─ run   looks at one thing and reports
//	                          └─ gate  reports, too, and ends the examination where later checks would make no sense
//
// A new check is one entry in checks, and the function that it names.
//
// Invariants: a check changes nothing. It asks for privileges before it asks for what takes them, for the doctor is run by roles that
// lack some. A check that fails is a warning under its name, and the others go on.
package doctor
