// Package schema says which schema of the database this build works on, to those who make it and to those who need it.
package schema

// Version is the newest migration, and the oldest schema that a relay of this build runs on.
const Version = 43
