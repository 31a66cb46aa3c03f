// Package interop checks what goes out against the libraries that receivers use: Standard Webhooks and CloudEvents, in Go
// and in JavaScript. It is a module of its own so that they are no dependency of the product.
//
// The tests in JavaScript need node and npm, which fetches the libraries that node/package-lock.json names.
package interop
