package webhook

import "time"

// RetrySchedule returns the waits between attempts that Standard Webhooks gives as an example ("Deliverability and
// reliability"): ten attempts within three days and a bit. It is the default of subscriptions to webhooks.
func RetrySchedule() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}
