// Package connecttest tries to lose a login that a user of a web application has just
// made. It consists of tests only: many users press the button at once, replicas are
// processes of their own behind a balancer, their store is a real PostgreSQL, and they are
// killed, above all while they exchange a code, and replaced.
//
//	go -C examples/service test ./connecttest                4 replicas, 50 users
//	STAYAUTH_FAULTS=full go -C examples/service test -timeout 20m -v ./connecttest
//	                                                          32 replicas, 1 000 users
//	STAYAUTH_FAULTS_SEED=7 ...                                the same users and kills again
//
// The provider gives each refresh token and each code one life: whoever presents one again
// ends the login.
package connecttest
