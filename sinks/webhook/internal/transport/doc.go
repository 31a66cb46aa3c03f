// Package transport keeps the connections of a webhook to its destination: dialling past the guard, through a proxy or not, TLS with files that
// may be replaced while it is used, HTTP/2, pools that are made anew when something of that has changed, and what errors of all this mean.
//
//   - Each address that is dialled is shown to the guard, after names were resolved: nothing leads past it but a proxy, which excludes a guard
//     that wants public addresses only.
//   - An error that is the destination's as a whole is a connect error (IsConnectError), and says what to do where that is known.
//   - Each connection goes to the one who speaks the protocol that it has negotiated: an http1.Client for HTTP/1.1, else net/http.
//   - No error has text that a peer may have copied from a request, nor user info of a proxy.
package transport
