"""What a user may give: the errors that refuse it, and the checks that raise them."""
