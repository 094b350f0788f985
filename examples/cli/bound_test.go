//go:build !darwin && !windows

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A login that is bound to a key is one like any other, but its token is given to no other program.
// As for TestScripts, the browser is the test binary.
func TestBoundLogins(t *testing.T) {
	provider := users
	provider.AuthStyle = oauthtest.AuthNone
	provider.DPoP = oauthtest.DPoP{Mode: oauthtest.DPoPRequired, TokenNonces: true, APINonces: true}
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		// proofs: there were some, each for one request.
		"proofs": func(ts *testscript.TestScript, _ bool, _ []string) {
			if c := stageOf(ts).srv.Counts(); c.Proofs == 0 || c.RepeatedProofs+c.BadProofs+c.StrayNonces+c.Downgrades > 0 {
				ts.Fatalf("the server has seen %+v", c)
			}
		},
	}
	for name, cmd := range scriptCommands {
		cmds[name] = cmd
	}
	provide := setup(provider, "file", nil)
	testscript.Run(t, testscript.Params{Dir: "testdata/bound", Cmds: cmds, Condition: condition(t.TempDir()), Setup: func(env *testscript.Env) error {
		if err := provide(env); err != nil {
			return err
		}
		host := strings.TrimPrefix(env.Getenv("ORIGIN"), "http://")
		return os.WriteFile(filepath.Join(env.WorkDir, "request"), []byte("protocol=http\nhost="+host+"\n\n"), 0o600)
	}})
}
