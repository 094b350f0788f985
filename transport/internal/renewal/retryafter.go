package renewal

import "time"

// LongestRetryAfter is how long a provider's Retry-After is obeyed: an answer of a broken
// proxy must not keep a program out for a day.
const LongestRetryAfter = 10 * time.Minute
