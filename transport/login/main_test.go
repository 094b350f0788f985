package login

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(testkit.Waiting(leakChecked{m})) }

// leakChecked are tests that fail if a login has left a goroutine behind, however it ended.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if left := leftovers(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines were left behind:\n\n"+left)
		code = 1
	}
	return code
}

// leftovers returns the goroutines of this package that do not end by themselves.
func leftovers() (left string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		left = ""
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "/transport/login.") && !strings.Contains(g, ".leakChecked.Run(") {
				left += g + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
	}
	return left
}
