<?php
function adminer_object()
{
    class AnyPassword extends Adminer
    {
        function login($login, $password)
        {
            return true;
        }
    }
    return new AnyPassword();
}
include "/usr/share/adminer/adminer.php";
