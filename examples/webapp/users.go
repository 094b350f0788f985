package main

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
)

// A user is one of the application's own, who has nothing to do with the provider's.
type user struct {
	id    string // never changes, whatever else does
	name  string
	admin bool

	salt, hash []byte // of the password
}

// The users of a real application are in its database.
var users = []user{
	newUser("u1", "ann", true),
	newUser("u2", "ben", false),
}

func newUser(id, name string, admin bool) user {
	u := user{id: id, name: name, admin: admin, salt: []byte("salt of " + id)}
	u.hash = u.hashOf(name)
	return u
}

func (u user) hashOf(password string) []byte {
	hash, err := pbkdf2.Key(sha256.New, password, u.salt, 600_000, 32)
	if err != nil {
		panic(err)
	}
	return hash
}

// signIn returns the user with that name and password. It takes as long if there is none.
func signIn(name, password string) (user, bool) {
	var found user
	for _, u := range users {
		if u.name == name {
			found = u
		}
	}
	ok := subtle.ConstantTimeCompare(found.hashOf(password), found.hash) == 1
	return found, ok
}

func userByID(id string) (user, bool) {
	i := slices.IndexFunc(users, func(u user) bool { return u.id == id })
	if i < 0 {
		return user{}, false
	}
	return users[i], true
}

func names() []string {
	var all []string
	for _, u := range users {
		all = append(all, u.name)
	}
	return all
}
