"""Programs that measure, and that put what was measured into results/ and the READMEs."""
