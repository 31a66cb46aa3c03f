// Package health knows what fails again and again for reasons that are not a destination's: it decides what of that is logged and how often,
// what makes a relay not ready, and what is a subscription's trouble. A database that is away makes everything fail: that is one thing to
// tell, with its beginning and its end, not one for each part.
package health
