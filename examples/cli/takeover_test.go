package main

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/oauth2"
)

// Logins of other programs go on here, and no newer one is lost to them.
func TestTakeOver(t *testing.T) {
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		// old SHAPE ACCOUNT FILE: another program has logged in, an hour ago, and keeps the login
		// in the file.
		"old": func(ts *testscript.TestScript, _ bool, args []string) {
			srv := stageOf(ts).srv
			tokens := srv.Login(args[1])
			tok := oauth2.Token{AccessToken: tokens.AccessToken, TokenType: "Bearer", RefreshToken: tokens.RefreshToken, Expiry: time.Now().Add(time.Hour)}
			text, err := json.Marshal(tok)
			ts.Check(err)
			switch args[0] {
			case "expired":
				tok.Expiry, tok.RefreshToken = time.Now().Add(-time.Hour), ""
				text, err = json.Marshal(tok)
				ts.Check(err)
			case "kubeconfig":
				text = fmt.Appendf(nil, `{"kind":"Config","users":[{"name":%q,"user":{"auth-provider":{"name":"oidc","config":
					{"idp-issuer-url":%q,"client-id":%q,"client-secret":%q,"id-token":"","refresh-token":%q}}}}]}`,
					args[1], srv.URL(), srv.ClientID(), srv.ClientSecret(), tokens.RefreshToken)
			case "rclone":
				text = fmt.Appendf(nil, "[%s]\nclient_id = %s\ntoken = %s\n\n[other]\nclient_id = %[2]s\ntoken = {\"refresh_token\":\"x\"}\n", args[1], srv.ClientID(), text)
			}
			file := ts.MkAbs(args[2])
			ts.Check(os.WriteFile(file, text, 0o600))
			then := time.Now().Add(-time.Hour)
			ts.Check(os.Chtimes(file, then, then))
		},
	}
	for name, cmd := range scriptCommands {
		cmds[name] = cmd
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/takeover", Setup: setup(users, "file", nil), Cmds: cmds})
}
