package renewal

import "time"

// LongestRetryAfter is the longest Retry-After that is obeyed: a broken proxy must not throttle
// a program for a day.
const LongestRetryAfter = 10 * time.Minute
