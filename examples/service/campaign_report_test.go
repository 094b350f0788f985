package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// through is how long after its begin a failover is still to be seen in the calls.
const through = 15 * time.Second

// report prints a row of a table.
func (c *campaign) report(t *testing.T, name string, p *proof) {
	n := c.counted()
	var during []time.Duration
	failed := 0
	for _, call := range c.calls {
		if c.since(call.begun) < through {
			during = append(during, call.took)
		}
		if call.failed != nil && !strings.Contains(call.failed.text, "login required") {
			failed++
		}
	}
	slices.Sort(during)
	gap, whose := c.longestGap()
	t.Logf("the longest gap is that of %s", whose)
	t.Logf("| case | took | failovers and restarts | replicas killed, replaced | calls | failed | though a token was good | reuses | as a replica was killed | as it was cut off | as the store forgot the token | the note and the lock | the lock | longest gap | p50 | p99 |")
	t.Logf("| %s | %.0f s | %d | %d, %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %.1f s | %d ms | %.1f s |", name, c.took().Seconds(), len(c.failures), p.killed, c.ended-p.killed,
		len(c.calls), failed, p.good, p.Reuses, n[byKill], n[byCut], n[byToken], n[byNote], n[byLock], gap.Seconds(),
		quantile(during, 0.5).Milliseconds(), quantile(during, 0.99).Seconds())
	for _, f := range c.failures {
		last, failed := time.Duration(0), 0
		for _, call := range c.calls {
			if call.failed != nil && !call.begun.Before(f.begin) && c.since(call.begun) == call.begun.Sub(f.begin) {
				failed++
				last = max(last, call.failed.at.Sub(f.over))
			}
		}
		t.Logf("%s: took %.1f s, %d calls failed, the last %.1f s after it", f.what, f.over.Sub(f.begin).Seconds(), failed, last.Seconds())
	}
	texts := make(map[string]int)
	for _, f := range p.failures {
		texts[anonymous(f.text)]++
	}
	for text, n := range texts {
		t.Logf("%d times: %s", n, text)
	}
	if campaignCalls != "" {
		c.write(t, filepath.Join(campaignCalls, strings.ReplaceAll(name, " ", "-")+".csv"))
	}
}

// took returns how long calls were made.
func (c *campaign) took() time.Duration {
	last := c.calls[len(c.calls)-1]
	return last.begun.Add(last.took).Sub(c.calls[0].begun)
}

// anonymous returns the text without what differs from one to the next.
func anonymous(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		if strings.ContainsAny(w, "0123456789") && i > 0 {
			words[i] = "…"
		}
	}
	return strings.Join(words, " ")
}

// since returns how long before at the store has failed for the last time.
func (c *campaign) since(at time.Time) time.Duration {
	last := time.Duration(1 << 62)
	for _, f := range c.failures {
		if !f.begin.After(at) {
			last = at.Sub(f.begin)
		}
	}
	return last
}

// longestGap returns the longest time in which a user who was not told to log in had no good
// answer, and why.
func (c *campaign) longestGap() (longest time.Duration, whose string) {
	last := make(map[string]time.Time)
	failed := make(map[string]string)
	for _, call := range c.calls { // in the order of their ends
		at := call.begun.Add(call.took)
		switch {
		case call.failed != nil && strings.Contains(call.failed.text, "login required"):
			delete(last, call.account)
		case call.failed != nil:
			failed[call.account] = call.failed.text
		case call.status == 200:
			if before, ok := last[call.account]; ok && at.Sub(before) > longest {
				longest, whose = at.Sub(before), fmt.Sprintf("%s, %v after a failover: %s", call.account, c.since(before), failed[call.account])
			}
			last[call.account] = at
			delete(failed, call.account)
		}
	}
	return longest, whose
}

// write writes when each call was made, in seconds after a failover, how many seconds it took,
// and its status.
func (c *campaign) write(t *testing.T, file string) {
	var b strings.Builder
	for _, call := range c.calls {
		after := c.since(call.begun)
		for _, f := range c.failures {
			if before := call.begun.Sub(f.begin); before < 0 && before > -5*time.Second {
				after = before
			}
		}
		if after < 2*through {
			fmt.Fprintf(&b, "%.3f,%.4f,%d\n", after.Seconds(), call.took.Seconds(), call.status)
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Error(err)
	}
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}
