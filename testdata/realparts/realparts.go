// Package realparts starts the real programs that tests run against: a certified
// authorization server, a browser, an OS keyring with a session bus of its own, PostgreSQL,
// Redis. It is test support for this module and its nested modules, not part of what they
// offer.
//
// A real part that is not installed makes the test skip, and the reason says how to
// install it. With STAYAUTH_REQUIRE=all it makes the test fail: that is how .ci/run
// knows that everything was really tested. Nothing is downloaded unless
// STAYAUTH_REQUIRE=all asks for it.
//
// Every part is private to the test that starts it, listens only on loopback, a socket
// file or a network of its own, and ends with the test, even if the test process is
// killed.
package realparts

import (
	"os"
	"testing"
)

// Require does nothing if err is nil. Else the real part called what cannot be used,
// and the test skips, or fails if STAYAUTH_REQUIRE=all.
func Require(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if required() {
		t.Fatalf("%s is required by STAYAUTH_REQUIRE=all: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}

func required() bool { return os.Getenv("STAYAUTH_REQUIRE") == "all" }
