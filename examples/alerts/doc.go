// Package alerts tests the example beside it: a small receiver that posts Postrider's events to a chat.
package alerts
