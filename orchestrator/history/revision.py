"""The version of the schema. It stands alone, so that naming it loads no SQL."""

#: The version of the schema that this version of the product needs.
REVISION = "0002"
