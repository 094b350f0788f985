package main

import (
	"runtime/debug"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/login"
)

// Accounts of the same name are shown with what tells them apart, and 'use' takes either.
func TestAccountsOfOneName(t *testing.T) {
	account := func(called, subject, name string) login.Account {
		return login.Account{Key: tokencache.Key{Account: called}, Subject: subject, Name: name}
	}
	for _, tt := range []struct {
		name string
		all  []login.Account
		want []string
	}{
		{"one", []login.Account{account("4711", "4711", "Ann")}, []string{"Ann"}},
		{"one that was given a name", []login.Account{account("work", "4711", "Ann")}, []string{"Ann (work)"}},
		{"a name of its own", []login.Account{account("Ann", "4711", "Ann")}, []string{"Ann"}},
		{"one person twice", []login.Account{account("home", "4711", "Ann"), account("work", "4711", "Ann")}, []string{"Ann (home)", "Ann (work)"}},
		{"two persons", []login.Account{account("4711", "4711", "Ann"), account("4712", "4712", "Ann")}, []string{"Ann (4711)", "Ann (4712)"}},
		{"no name", []login.Account{account("", "", "")}, []string{"(no name)"}},
	} {
		for i, a := range tt.all {
			if got := shown(a, tt.all); got != tt.want[i] {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want[i])
			}
			if called := a.Key.Account; called != "" {
				if found, err := login.Choose(tt.all, called); err != nil || found.Key != a.Key {
					t.Errorf("%s: use %s: %v, %v", tt.name, called, found.Key, err)
				}
			}
		}
	}
}

// The version says what a report of a bug needs.
func TestVersion(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "amd64"}, {Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: "true"}}}
	if got, want := describe(info), "v1.2.3 (commit 0123456789ab, changed since, go1.26.8 linux/amd64)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	info.Settings = info.Settings[:2]
	if got, want := describe(info), "v1.2.3 (go1.26.8 linux/amd64)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
