// Package subscription has what a subscription is: its name, topics, sink and settings, with the one list of settings from which JSON,
// environment, files, comparison, defaults and checks follow. A Part is what a cursor, an owner, a save and a fence belong to.
package subscription
