package subscription

// SettingNames are the settings of a subscription, as files and the database call them.
var SettingNames = []string{"ordering", "on_dead", "max_attempts", "lanes", "batch", "timeout", "backoff_initial", "backoff_max", "max_parked", "max_scheduled",
	"backoff_schedule", "linger", "options"}
