package transport

import (
	"net/http"
	"testing"
	"time"
)

// However short the pause of a back-off with jitter, the first above all, a provider that
// is down is left alone for a second by all who share its gate.
func TestAProviderIsLeftAloneForASecond(t *testing.T) {
	e := &Error{Kind: ErrUnavailable, Status: http.StatusServiceUnavailable}
	for range 1000 {
		g := new(Gate)
		for attempt := range 3 {
			g.failed(nil, e, true, true)
			soon := wallNow().Add(900 * time.Millisecond)
			for _, wanted := range []bool{false, true} {
				if g.blocks(soon, wanted) == nil {
					t.Fatalf("after attempt %d, the next may begin at once (wanted: %t)", attempt+1, wanted)
				}
			}
		}
	}
}
