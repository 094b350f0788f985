package endpoint

import "github.com/stayauth/stayauth/transport/internal/neterror"

// cause returns what can be told of an error of the connection without a secret.
func (a *answer) cause(err error) error {
	told := neterror.Safe(err)
	if a.shows(told.Error()) {
		return neterror.TypeOf(told)
	}
	return told
}
