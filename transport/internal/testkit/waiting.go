package testkit

import (
	"flag"
	"os"
)

// Waiting runs tests that mostly wait, for processes and for tokens to expire: more of them at a
// time than there are processors. With every real part beside them, and the race detector, they
// leave the machine some time.
func Waiting(m interface{ Run() int }) interface{ Run() int } { return waiting{m} }

// Pick returns how much to do: some, so that those who have only Go need not wait for long, or all,
// with every real part.
func Pick[T any](some, all T) T {
	if thorough() {
		return all
	}
	return some
}

func thorough() bool { return os.Getenv("STAYAUTH_REQUIRE") == "all" }

type waiting struct{ tests interface{ Run() int } }

func (w waiting) Run() int {
	flag.Parse()
	if !thorough() {
		flag.Set("test.parallel", "6")
	}
	return w.tests.Run()
}
