package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
)

// settings are what login remembers. There is no secret in them.
type settings struct {
	Store    string             `json:"store"`
	Profiles map[string]profile `json:"profiles"`

	others members
}

// members are those of an object that this version does not know: another one has written them.
type members map[string]json.RawMessage

// readObject reads an object into known, and returns its other members.
func readObject(b []byte, known any) (members, error) {
	var others members
	if err := json.Unmarshal(b, &others); err != nil {
		return nil, err
	}
	for _, field := range reflect.VisibleFields(reflect.TypeOf(known).Elem()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		delete(others, name)
	}
	return others, json.Unmarshal(b, known)
}

// writeObject writes known, and its other members.
func writeObject(known any, others members) ([]byte, error) {
	b, err := json.Marshal(known)
	if err != nil || len(others) == 0 {
		return b, err
	}
	all := members{}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, others)
	return json.Marshal(all)
}

func (s *settings) UnmarshalJSON(b []byte) (err error) {
	type plain settings
	s.others, err = readObject(b, (*plain)(s))
	return err
}

func (s settings) MarshalJSON() ([]byte, error) {
	type plain settings
	return writeObject(plain(s), s.others)
}

func (p *profile) UnmarshalJSON(b []byte) (err error) {
	type plain profile
	p.others, err = readObject(b, (*plain)(p))
	return err
}

func (p profile) MarshalJSON() ([]byte, error) {
	type plain profile
	return writeObject(plain(p), p.others)
}

func (p profile) isClientOf(other profile) bool {
	return p.Provider == other.Provider && p.ClientID == other.ClientID
}

// remember stores the present options as the profile, with account as the one in use.
func (c *cli) remember(account string) error {
	return c.changeSettings(func(s *settings) {
		p := c.profile
		p.Account, p.Confidential = account, p.Confidential || c.clientSecret != "" || p.SecretFile != ""
		if old := s.Profiles[c.profileName]; old.Provider == "" || old.isClientOf(p) {
			p.others = old.others
		}
		c.keep(s.Profiles, p)
		s.Store, s.Profiles[c.profileName] = c.store, p
	})
}

// choose makes account the one in use, and leaves the rest of the profile to who has written it.
func (c *cli) choose(account string) error {
	known := false
	err := c.changeSettings(func(s *settings) {
		p := s.Profiles[c.profileName]
		if known = p.isClientOf(c.profile); known {
			p.Account = account
			s.Profiles[c.profileName] = p
		}
	})
	if known || err != nil {
		return err
	}
	return c.remember(account)
}

// keep gives the profile that p is about to replace a name of its own, if it is that of another
// client: its logins live on, and can be used and ended only by who knows whose they are.
func (c *cli) keep(profiles map[string]profile, p profile) {
	old := profiles[c.profileName]
	if old.Provider == "" || old.isClientOf(p) {
		return
	}
	name := old.Provider
	if other, taken := profiles[name]; taken && !other.isClientOf(old) {
		name += " " + old.ClientID
	}
	profiles[name] = old
	c.say("What was remembered of %s is kept: use it with -profile '%s'.\n", old.Provider, name)
}
