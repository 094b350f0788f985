package testkit

import (
	"flag"
	"os"
)

// Waiting runs tests that mostly wait, for processes and for tokens to expire: more of them at a
// time than there are processors. With every real part beside them, and the race detector, they
// leave the machine some time.
func Waiting(m interface{ Run() int }) interface{ Run() int } { return waiting{m} }

type waiting struct{ tests interface{ Run() int } }

func (w waiting) Run() int {
	flag.Parse()
	if os.Getenv("STAYAUTH_REQUIRE") != "all" {
		flag.Set("test.parallel", "6")
	}
	return w.tests.Run()
}
