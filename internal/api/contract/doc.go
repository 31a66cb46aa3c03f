// Package contract holds a relay's API to the document that it serves, with a library of somebody else's. It is a module of its own, so that
// nothing else depends on that.
package contract
